package daemon_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/scoreboard"
)

// Jobs of old code that have drained for too long, and those of a daemon that stops, are told before they are ended: while
// the context is still good, why, and how much time there is.
func TestOnEvict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, env, told, cause string }{
		{"drain timeout", "BROOD_DRAIN_TIMEOUT=200ms", "evicted: has drained for 200ms, 5s left, context <nil>", "evicted: has drained for 200ms"},
		{"stop timeout", "BROOD_STOP_TIMEOUT=200ms", "the daemon is stopping, 5s left, context <nil>", "stopping"},
		{"quick stop", "", "the daemon is stopping, 5s left, context <nil>", "stopping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, lines, "BROOD_PREFORK=1", "BROOD_KILL_GRACE=5s", tt.env)
			conn := s.dial("tcp4")
			pid, _ := askWho(t, conn, "save one gate")
			switch tt.name {
			case "drain timeout":
				s.signal(syscall.SIGHUP, s.board().PID)
			case "stop timeout":
				s.signal(syscall.SIGTERM, s.board().PID)
			default:
				s.signal(syscall.SIGINT, s.board().PID)
			}
			if got := s.event("evicted", "one").Text; got != tt.told {
				t.Errorf("told %q, want %q", got, tt.told)
			}
			if n := len(s.eventsOf("end", "one")); n != 0 {
				t.Errorf("the job has ended before it had saved its state")
			}
			s.open("one")
			if got := s.event("end", "one").Text; !strings.Contains(got, tt.cause) {
				t.Errorf("ended with %q, want %q", got, tt.cause)
			}
			if tt.name == "drain timeout" {
				s.await("the old child is gone", func(b *scoreboard.Snapshot) bool {
					return len(b.Children) == 1 && b.Children[0].PID != pid
				})
			}
			if log := s.log(); strings.Contains(log, "killing child") {
				t.Errorf("killed:\n%s", log)
			}
		})
	}
}

// New jobs go to the newest generation as soon as its first child is ready, and to the others while that one is busy.
func TestNewJobsGoToNewCode(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=4", "BROOD_SOAK=1m")
	old := s.board()
	s.signal(syscall.SIGHUP, old.PID)
	b := s.await("the first of the new ones is ready", func(b *scoreboard.Snapshot) bool {
		return len(b.Children) == 5 && b.Children[4].State == scoreboard.Idle
	})
	young := b.Children[4].PID
	// The old ones take a moment to stand behind. Nothing is done by the new one: the probation goes on.
	seen := map[int]bool{young: true}
	eventually(t, "a job goes to the new code", func() bool {
		conn := s.dial("tcp4")
		pid, _ := askWho(t, conn, "hold probe")
		if pid != young {
			conn.Close()
		}
		return pid == young
	})
	// From here on whoever is not busy is an old one.
	for i := range 4 {
		pid, _ := askWho(t, s.dial("tcp4"), fmt.Sprint("hold ", i))
		if seen[pid] {
			t.Errorf("child %d has two jobs", pid)
		}
		seen[pid] = true
	}
}
