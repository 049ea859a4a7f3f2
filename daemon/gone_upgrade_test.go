package daemon_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/netmon"
	"github.com/brooddaemon/brood/scoreboard"
)

// unhurried is lines with a parent that does not begin while the test holds it.
var unhurried = scenario("unhurried", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.AfterInit = func(*daemon.Parent) error {
		note(event{What: "AfterInit"})
		for {
			if _, err := os.Stat(sitePath("hold")); err != nil {
				return nil
			}
			time.Sleep(time.Millisecond)
		}
	}
	return cfg
})

// upgradeWhile upgrades the parent, and has f called after the new program has begun and before it can notice anything.
func (s *site) upgradeWhile(f func()) {
	s.t.Helper()
	if err := os.WriteFile(s.path("hold"), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	n := len(s.eventsOf("AfterInit", ""))
	s.signal(syscall.SIGUSR2, s.cmd.Process.Pid)
	eventually(s.t, "the new program to begin", func() bool { return len(s.eventsOf("AfterInit", "")) > n })
	f()
	if err := os.Remove(s.path("hold")); err != nil {
		s.t.Fatal(err)
	}
	s.await("the upgrade", func(b *scoreboard.Snapshot) bool {
		return b.Reload == "upgrade: signal SIGUSR2" && b.State == "serving"
	})
}

// Clients of children that are stopped leave while the parent's program is replaced. The new one has seen none of their
// connections, and one that is reset leaves no trace in the kernel's tables. B38
func TestGoneInUpgrade(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]netmon.How{"close": netmon.Closed, "reset": netmon.Reset} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, unhurried, "POLICY=cancel", "BROOD_PREFORK=3")
			conn, pid := s.stopped("tcp4", "hold one")
			stays, _ := s.stopped("tcp4", "hold two")
			s.sweep("first")
			s.sweep("second")
			// Of an upgrade after which nothing has been looked at, too, the next one knows what the one before has seen.
			s.upgradeWhile(func() {})
			s.upgradeWhile(func() {
				if how == netmon.Reset {
					conn.(*net.TCPConn).SetLinger(0)
				}
				conn.Close()
			})
			got := s.lost(3)[2]
			if got.PID != pid || got.Job != 1 || got.How != how || got.Foreign != addrPort(conn.LocalAddr()) {
				t.Errorf("told %+v", got)
			}
			s.signal(syscall.SIGCONT, pid)
			if e := s.event("end", "one"); e.Text != "client gone" {
				t.Errorf("the job ends: %s", e.Text)
			}
			s.upgradeWhile(func() {})
			s.sweep("third")
			for _, l := range s.lost(4)[3:] {
				if l.Foreign == addrPort(stays.LocalAddr()) || l.Foreign == addrPort(conn.LocalAddr()) {
					t.Errorf("told %+v", l)
				}
			}
		})
	}
}

// More clients of a stopped child leave than the parent's questions about them find room. When the child goes on it is asked the
// rest, by a parent that has been replaced meanwhile.
func TestGoneFromStoppedCrowd(t *testing.T) {
	t.Parallel()
	s := start(t, unhurried, "POLICY=cancel", "BROOD_PREFORK=1", "BROOD_CONCURRENCY=500", listen("tcp4"))
	const all = 400
	conns := make([]net.Conn, all)
	pid := 0
	for i := range conns {
		conns[i] = s.dial("tcp4")
		pid, _ = askWho(t, conns[i], fmt.Sprintf("hold %d", i))
	}
	s.signal(syscall.SIGSTOP, pid)
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
	for _, conn := range conns {
		conn.Close()
	}
	if got := s.lost(1)[0]; got.Job != 1 {
		t.Errorf("told %+v first", got)
	}
	s.upgradeWhile(func() {})
	s.signal(syscall.SIGCONT, pid)
	s.idle(pid, all)
	if n := s.board().Lost; n != all {
		t.Errorf("%d clients have left", n)
	}
	for _, e := range s.eventsOf("end", "") {
		if e.Text != "client gone" {
			t.Errorf("job %s ends: %s", e.ID, e.Text)
		}
	}
	if strings.Contains(s.log(), "cannot reach child") {
		t.Error("the child has not been asked about all of them")
	}
}
