package daemon_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/scoreboard"
)

// Two children with room for four: eight clients are served at once, four by each, and the ninth when one is through.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_CONCURRENCY=4")
	at := map[int]int{}
	for i := range 8 {
		pid, _ := askWho(t, s.dial("tcp4"), fmt.Sprint("gate ", i))
		if at[pid]++; at[pid] > 4 {
			t.Fatalf("child %d runs %d jobs", pid, at[pid])
		}
	}
	ninth := s.dial("tcp4")
	say(t, ninth, "gate 8")
	b := s.board()
	for _, c := range b.Children {
		if c.Running != 4 || c.State != scoreboard.Working {
			t.Errorf("the scoreboard shows %+v", c)
		}
		// The oldest job is the one that is shown.
		if c.Job != 1 {
			t.Errorf("child %d shows job %d", c.PID, c.Job)
		}
	}
	if len(s.eventsOf("begin", "8")) > 0 {
		t.Error("the ninth job has begun")
	}
	s.open("3")
	third := s.event("end", "3")
	if ninth := s.event("begin", "8"); ninth.PID != third.PID {
		t.Errorf("the ninth job runs in %d, room is in %d", ninth.PID, third.PID)
	}
	if begun := linesOf[event](s, "events"); begun[len(begun)-1].What != "begin" || begun[len(begun)-2].What != "end" {
		t.Errorf("it did not wait: %+v", begun)
	}
	for i := range 9 {
		s.open(fmt.Sprint(i))
	}
	if answer, err := io.ReadAll(ninth); err != nil || !strings.HasSuffix(string(answer), "\nbye\n") {
		t.Errorf("the ninth is answered %q, %v", answer, err)
	}
	s.await("rest", func(b *scoreboard.Snapshot) bool {
		return b.Children[0].Running+b.Children[1].Running == 0 && b.Children[0].Done+b.Children[1].Done == 9
	})
}

// A crowd that never rests: nobody is forgotten, and no child runs more than it should.
func TestConcurrencyCrowd(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_CONCURRENCY=4")
	const clients, each = 16, 40
	errs := make(chan error, clients)
	for range clients {
		go func() {
			errs <- func() error {
				for range each {
					conn, err := net.Dial("tcp4", s.addr("tcp4"))
					if err != nil {
						return err
					}
					io.WriteString(conn, "nap 200us ok\n")
					answer, err := io.ReadAll(conn)
					conn.Close()
					if err != nil || string(answer) != "ok true\n" {
						return fmt.Errorf("answer %q, %v", answer, err)
					}
				}
				return nil
			}()
		}()
	}
	for left := clients; left > 0; {
		select {
		case err := <-errs:
			if err != nil {
				t.Error(err)
			}
			left--
		default:
			for _, c := range s.board().Children {
				if c.Running > 4 {
					t.Fatalf("%d jobs in one child", c.Running)
				}
			}
		}
	}
	s.await("all jobs to be counted", func(b *scoreboard.Snapshot) bool {
		return b.Children[0].Done+b.Children[1].Done == clients*each
	})
}

// The scoreboard, read from outside, tells what a child does for whom.
func TestScoreboardTells(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1", "BROOD_DRAIN_TIMEOUT=20s")
	c := s.serving()[0]
	if c.State != scoreboard.Idle || c.Running != 0 || c.Job != 0 || c.Text != "" || c.Client != "" || c.Cause != "start" {
		t.Errorf("at rest: %+v", c)
	}
	long := strings.Repeat("0123456789", 30)
	for i, d := range []struct{ network, text, want string }{
		{"tcp4", "import of 7 cows", "import of 7 cows"},
		{"unix", "naïve \x1b[31m", "naïve \x1b[31m"},
		{"tcp4", long, long[:192]},
	} {
		conn := s.dial(d.network)
		client := conn.LocalAddr().String()
		if d.network == "unix" {
			client = "unix"
		}
		id := fmt.Sprint("job", i)
		say(t, conn, "describe "+id+" "+d.text)
		s.event("begin", id)
		got := s.child(c.PID)
		if got.State != scoreboard.Working || got.Running != 1 || got.Job != uint64(i+1) || got.Text != d.want || got.Client != client ||
			got.Started.Before(got.Born) || got.Done != uint64(i) {
			t.Errorf("%q: the scoreboard shows %+v", d.text, got)
		}
		s.open(id)
		s.idle(c.PID, uint64(i+1))
	}

	// A job that is asked to end but does not, and then, drained, in a child of an old generation.
	conn := s.dial("tcp4")
	askWho(t, conn, "deaf one")
	conn.Close()
	s.await("the letter C", func(b *scoreboard.Snapshot) bool { return b.Children[0].State == scoreboard.Cancelling })
	s.signal(syscall.SIGHUP, s.board().PID)
	b := s.await("two generations", func(b *scoreboard.Snapshot) bool {
		return b.State == "serving" && b.Generation == 2 && len(b.Children) == 2
	})
	if old := b.Children[0]; old.PID != c.PID || old.State != scoreboard.Cancelling || old.Generation != 1 {
		t.Errorf("the old one: %+v", old)
	}
	if b.Children[1].Cause != "reload: signal SIGHUP" || !b.ReloadOK || b.Reload != "signal SIGHUP" || b.ReloadAt.IsZero() {
		t.Errorf("after the reload: %+v, %+v", b.Children[1], b.Status)
	}
	young := b.Children[1].PID
	askWho(t, s.dial("tcp4"), "gate two")
	s.signal(syscall.SIGHUP, b.PID)
	s.await("the letter G", func(b *scoreboard.Snapshot) bool {
		return b.Generation == 3 && len(b.Children) == 3 && b.Children[1].PID == young && b.Children[1].State == scoreboard.Draining
	})
	if b := s.board(); b.Done != 0 || b.Born != 3 || b.Lost != 1 || b.Want != 1 {
		t.Errorf("the status: %+v", b.Status)
	}

	// What a child has done is counted when it is gone, be it by itself or killed.
	s.open("two")
	s.await("the jobs of the one", func(b *scoreboard.Snapshot) bool { return b.Done == 1 && len(b.Children) == 2 })
	s.signal(syscall.SIGKILL, c.PID)
	s.await("the jobs of both", func(b *scoreboard.Snapshot) bool { return b.Done == 4 && len(b.Children) == 1 })
}
