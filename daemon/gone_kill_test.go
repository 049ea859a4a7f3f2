package daemon_test

import (
	"io"
	"strings"
	"testing"

	"github.com/brooddaemon/brood/scoreboard"
)

// With KillChild a child ends with its job and is replaced. B16: so does what the job has started.
func TestGoneKill(t *testing.T) {
	for _, network := range networks() {
		for _, w := range ways {
			t.Run(network+" "+w.name, func(t *testing.T) {
				t.Parallel()
				s := start(t, lines, "POLICY=kill", "BROOD_KILL_GRACE=3s", listen(network))

				// A job that listens: the child leaves by itself.
				conn := s.dial(network)
				pid, _ := askWho(t, conn, "hold obeys")
				w.leave(t, conn)
				if e := s.event("end", "obeys"); e.Text != "client gone" {
					t.Errorf("the job ends: %s", e.Text)
				}
				b := s.await("a new child", func(b *scoreboard.Snapshot) bool { return b.Born == 3 && s.left(b, pid) })
				if b.Killed != 0 || b.Died != 0 || b.Lost != 1 {
					t.Errorf("the scoreboard: %+v", b.Status)
				}

				// A deaf one: the child is killed.
				conn = s.dial(network)
				pid, _ = askWho(t, conn, "deaf one")
				eventually(t, "what the job starts", func() bool { return len(s.commands("sleep 1000")) >= 2 })
				w.leave(t, conn)
				b = s.await("a new child", func(b *scoreboard.Snapshot) bool { return b.Born == 4 && s.left(b, pid) })
				if b.Killed != 1 || b.Died != 0 || b.Lost != 2 {
					t.Errorf("the scoreboard: %+v", b.Status)
				}
				eventually(t, "the end of what it had started", func() bool { return len(s.commands("sleep 1000")) == 0 })
				s.serving()
				eventually(t, "the reason in the log", func() bool {
					return strings.Contains(s.log(), `msg="killing child"`) && strings.Contains(s.log(), `cause="client of job`)
				})
				if got := s.lost(2); len(got) != 2 || got[1].PID != pid {
					t.Errorf("told %+v", got)
				}
			})
		}
	}
}

// left reports whether a child is off the board and its process has ended.
func (s *site) left(b *scoreboard.Snapshot, pid int) bool {
	for _, c := range b.Children {
		if c.PID == pid {
			return false
		}
	}
	return gone(pid)
}

// Other jobs of a child that ends with one of them have KillGrace to come to their end.
func TestGoneKillSparesOthers(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "POLICY=kill", "BROOD_PREFORK=1", "BROOD_CONCURRENCY=2", "BROOD_KILL_GRACE=20s")
	other := s.dial("tcp4")
	pid, _ := askWho(t, other, "gate other")
	conn := s.dial("tcp4")
	askWho(t, conn, "hold one")
	conn.Close()
	s.event("end", "one")
	if next, _ := askWho(t, s.dial("tcp4"), "who"); next == pid {
		t.Error("the child takes more work")
	}
	s.open("other")
	if rest, err := io.ReadAll(other); string(rest) != "bye\n" || err != nil {
		t.Errorf("the other client reads %q, %v", rest, err)
	}
	if e := s.event("end", "other"); e.Text != "not cancelled" || e.PID != pid {
		t.Errorf("the other job: %+v", e)
	}
	if b := s.await("its end", func(b *scoreboard.Snapshot) bool { return s.left(b, pid) }); b.Killed != 0 {
		t.Error("it was killed")
	}
}

// B39: a policy may let the job go on, and a client who has only closed his half gets his answer. So it is with a
// policy that panics, which is told.
func TestGoneIgnore(t *testing.T) {
	for _, policy := range []string{"ignore", "panic"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := start(t, lines, "POLICY="+policy, "BROOD_PREFORK=1")
			n := 0
			for _, network := range networks() {
				for _, w := range ways {
					n++
					id := network + w.name
					conn := s.dial(network)
					pid, _ := askWho(t, conn, "gate "+id)
					w.leave(t, conn)
					s.lost(n)
					s.open(id)
					if e := s.event("end", id); e.Text != "not cancelled" || e.PID != pid {
						t.Errorf("%s %s: the job ends: %+v", network, w.name, e)
					}
					if w.name == "half" {
						if rest, err := io.ReadAll(conn); string(rest) != "bye\n" || err != nil {
							t.Errorf("%s: the client reads %q, %v", network, rest, err)
						}
					}
					conn.Close()
					s.idle(pid, uint64(n))
				}
			}
			if b := s.board(); b.Born != 1 || b.Lost != uint64(n) {
				t.Errorf("the scoreboard: %+v", b.Status)
			}
			if told := strings.Contains(s.log(), "OnClientDisconnect panicked: policy gone mad"); told != (policy == "panic") {
				t.Errorf("a panic in the log: %v", told)
			}
		})
	}
}

// B41: a policy that takes its time does not hold up the child for ever, and what it says in the end hits no other job.
func TestGoneSlowPolicy(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "POLICY=slow", "BROOD_PREFORK=1", "BROOD_KILL_GRACE=1ms")
	conn := s.dial("tcp4")
	pid, _ := askWho(t, conn, "gate first")
	conn.Close()
	s.lost(1)
	s.open("first")
	next := s.dial("tcp4")
	if again, _ := askWho(t, next, "gate second"); again != pid {
		t.Fatalf("child %d instead of %d", again, pid)
	}
	s.open("policy")
	eventually(t, "the verdict", func() bool { return strings.Contains(s.log(), "action=kill") })
	// The revocation is taken back when the child says that the job is over.
	s.await("the matter to be settled", func(b *scoreboard.Snapshot) bool { return b.Children[0].Revoked == 0 })
	s.open("second")
	if rest, err := io.ReadAll(next); string(rest) != "bye\n" || err != nil {
		t.Errorf("the second client reads %q, %v", rest, err)
	}
	if e := s.event("end", "second"); e.Text != "not cancelled" {
		t.Errorf("the second job ends: %s", e.Text)
	}
	s.idle(pid, 2)
	if again, _ := askWho(t, s.dial("tcp4"), "who"); again != pid {
		t.Error("the child has been replaced")
	}
}
