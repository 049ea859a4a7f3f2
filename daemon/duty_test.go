package daemon_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/scoreboard"
)

// duties are the children that wait for connections and those that rest, by what stands on the scoreboard (docs/SCOREBOARD.md).
func (s *site) duties() (on, off []int) {
	s.t.Helper()
	file, err := os.ReadFile(s.path("run/scoreboard"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range s.board().Children {
		switch binary.LittleEndian.Uint64(file[4096+512*c.Slot+184:]) {
		case 1:
			on = append(on, c.PID)
		case 2:
			off = append(off, c.PID)
		}
	}
	return on, off
}

// allTake has n clients come at once and wants each of them to be answered by a child of his own, all at the same time.
func (s *site) allTake(n int, what string) {
	s.t.Helper()
	id := strings.ReplaceAll(what, " ", "-")
	var conns []net.Conn
	for range n {
		conn := s.dial("tcp4")
		say(s.t, conn, "gate "+id)
		conns = append(conns, conn)
	}
	s.await(fmt.Sprintf("%d jobs %s", n, what), func(b *scoreboard.Snapshot) bool {
		working := 0
		for _, c := range b.Children {
			if c.State == scoreboard.Working {
				working++
			}
		}
		return working == n
	})
	s.open(id)
	for _, conn := range conns {
		if _, err := io.ReadAll(conn); err != nil {
			s.t.Errorf("%s: %v", what, err)
		}
		conn.Close()
	}
}

// rested waits until three children wait and the others rest. Each connection wakes those who are too many; they rest then.
func (s *site) rested(n int) {
	s.t.Helper()
	eventually(s.t, "three children wait and the others rest", func() bool {
		conn := s.dial("tcp4")
		askWho(s.t, conn, "who")
		conn.Close()
		on, off := s.duties()
		return len(on) == 3 && len(off) == n-3
	})
}

// Of idle children few wait and the others rest, and yet nobody waits for an answer while a child is idle: whoever rests is called when the
// others have work, when they die, and when they do not run.
func TestDuty(t *testing.T) {
	t.Parallel()
	const n = 8
	s := start(t, lines, fmt.Sprint("BROOD_PREFORK=", n), "BROOD_POOL=static")
	s.rested(n)
	s.allTake(n, "one for each")
	s.rested(n)
	s.allTake(n, "once more")
	for i, c := range s.serving() {
		s.rested(n)
		s.signal(syscall.SIGSTOP, c.PID)
		eventually(t, "it is stopped", func() bool {
			p, err := lookAt(c.PID)
			return err == nil && p.state == 'T'
		})
		s.allTake(n-1, fmt.Sprint("while one is stopped ", i))
		s.signal(syscall.SIGCONT, c.PID)
	}
	for i := range 3 {
		s.rested(n)
		for _, c := range s.serving() {
			if c.Slot%2 == i%2 {
				s.signal(syscall.SIGKILL, c.PID)
			}
		}
		s.await("the dead are replaced", func(b *scoreboard.Snapshot) bool {
			serving := 0
			for _, c := range b.Children {
				if c.State == scoreboard.Idle {
					serving++
				}
			}
			return serving == n
		})
		s.allTake(n, fmt.Sprint("after some were killed ", i))
	}
}

// When those on duty die, and nobody takes their places, those who rest are called by the parent.
func TestDutyOfTheDead(t *testing.T) {
	t.Parallel()
	const n = 6
	s := start(t, doomed, fmt.Sprint("BROOD_PREFORK=", n), "BROOD_POOL=static")
	s.rested(n)
	s.open("doom")
	on, _ := s.duties()
	for _, pid := range on {
		s.signal(syscall.SIGKILL, pid)
	}
	s.await("the dead are buried", func(b *scoreboard.Snapshot) bool {
		idle := 0
		for _, c := range b.Children {
			if c.State == scoreboard.Idle {
				idle++
			}
		}
		return idle == n-len(on)
	})
	s.allTake(n-len(on), "by those who are left")
}

// Who rests is called, too, when somebody has cut the scoreboard short and what stood there of his rest is lost.
func TestDutyOfLostBoard(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's run-time dies of the SIGBUS that a file cut short brings")
	}
	t.Parallel()
	const n = 6
	s := start(t, lines, fmt.Sprint("BROOD_PREFORK=", n), "BROOD_POOL=static")
	first := s.dial("tcp4")
	addr := first.RemoteAddr().String()
	first.Close()
	for i := range 5 {
		s.rested(n)
		if err := os.Truncate(s.path("run/scoreboard"), 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the scoreboard is mended", func() bool {
			conn, err := net.Dial("tcp4", addr) // a job that begins wakes the parent
			if err != nil {
				t.Fatal(err)
			}
			askWho(t, conn, "who")
			conn.Close()
			b, err := scoreboard.Read(s.path("run/scoreboard"))
			return err == nil && len(b.Children) == n
		})
		s.allTake(n, fmt.Sprint("after the scoreboard was cut short ", i))
	}
}

// After a reload that was given up the old children are what they were before.
func TestDutyAfterRollback(t *testing.T) {
	t.Parallel()
	const n = 6
	s := start(t, lines, fmt.Sprint("BROOD_PREFORK=", n), "BROOD_POOL=static", "BROOD_SOAK=1m")
	s.rested(n)
	s.signal(syscall.SIGHUP, s.board().PID)
	eventually(t, "the reload is given up", func() bool {
		b := s.board()
		if len(b.Children) == n+1 && b.Children[n].State == scoreboard.Idle {
			syscall.Kill(b.Children[n].PID, syscall.SIGKILL) // which may have happened before
		}
		return strings.Contains(s.log(), "reload failed")
	})
	s.await("the old ones alone serve", func(b *scoreboard.Snapshot) bool { return b.State == "serving" && len(b.Children) == n })
	s.rested(n)
	s.allTake(n, "after the reload")
}
