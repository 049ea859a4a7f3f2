package daemon_test

import (
	"io"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// B26: with nothing but defaults, a reload lets a job finish that runs on for longer than anybody is given to obey.
func TestReloadIsPatient(t *testing.T) {
	t.Parallel()
	s := start(t, lines)
	conn := s.dial("tcp4")
	pid, _ := askWho(t, conn, "gate long")
	s.reload()
	const kill = 2 * time.Second // KillGrace
	for end := time.Now().Add(kill + time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if gone(pid) {
			t.Fatal("the child has been ended")
		}
	}
	s.open("long")
	if rest, err := io.ReadAll(conn); string(rest) != "bye\n" || err != nil {
		t.Errorf("the client reads %q, %v", rest, err)
	}
	if e := s.event("end", "long"); e.Text != "not cancelled" || e.PID != pid {
		t.Errorf("the job ends: %+v", e)
	}
	if b := s.await("its end", func(b *scoreboard.Snapshot) bool { return s.left(b, pid) }); b.Killed != 0 || b.Died != 0 {
		t.Errorf("the scoreboard: %+v", b.Status)
	}
}
