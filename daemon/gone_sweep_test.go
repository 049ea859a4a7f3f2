package daemon_test

import (
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/netmon"
	"github.com/brooddaemon/brood/scoreboard"
)

// A child that is stopped sees nothing: what is noticed then is what the parent finds in the kernel's tables.

// soon is a generous limit for a look that is due every quarter of a second.
const soon = patience

// stopped begins a job on a connection of its own and stops its child.
func (s *site) stopped(network, line string) (conn net.Conn, pid int) {
	s.t.Helper()
	conn = s.dial(network)
	pid, _ = askWho(s.t, conn, line)
	s.signal(syscall.SIGSTOP, pid)
	eventually(s.t, "the child to stop", func() bool {
		p, err := lookAt(pid)
		return err == nil && p.state == 'T'
	})
	// A stopped process does not end when it is asked to.
	s.t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
	return conn, pid
}

// sweep waits until the parent has looked at the kernel's tables: until it has found a client of a stopped child. It
// returns the client's address. Another child must be there for it.
func (s *site) sweep(id string) string {
	s.t.Helper()
	conn, pid := s.stopped("tcp4", "hold "+id)
	client := conn.LocalAddr().String()
	conn.Close()
	eventually(s.t, "a look at the tables", func() bool {
		return slices.ContainsFunc(linesOf[lost](s, "lost"), func(l lost) bool { return l.Foreign.String() == client })
	})
	s.signal(syscall.SIGCONT, pid)
	s.event("end", id)
	return client
}

func TestSweepFIN(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			if !slices.Contains(networks(), network) {
				t.Skip("there is no IPv6 here")
			}
			s := start(t, lines, "POLICY=kill", "BROOD_KILL_GRACE=200ms", "BROOD_PREFORK=3")
			conn, pid := s.stopped(network, "hold one out")
			job := s.child(pid).Job
			left := time.Now()
			conn.Close()
			got := s.lost(1)[0]
			if late := time.Since(left); late > soon {
				t.Errorf("noticed after %v", late)
			}
			if got.PID != pid || got.Job != job || got.How != netmon.Closed || got.Proto != "tcp" || got.Text != "out" ||
				got.Local != addrPort(conn.RemoteAddr()) || got.Foreign != addrPort(conn.LocalAddr()) {
				t.Errorf("told %+v", got)
			}
			b := s.await("a new child", func(b *scoreboard.Snapshot) bool { return b.Born == 4 && s.left(b, pid) })
			if b.Killed != 1 || b.Lost != 1 || b.Died != 0 {
				t.Errorf("the scoreboard: %+v", b.Status)
			}
		})
	}
}

// B38: a reset leaves no trace in the tables, but the parent knows a connection that it has seen before.
func TestSweepRST(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "POLICY=cancel", "BROOD_PREFORK=2")
	conn, pid := s.stopped("tcp4", "hold one")
	job := s.child(pid).Job
	s.sweep("first")
	s.sweep("second")
	conn.(*net.TCPConn).SetLinger(0)
	left := time.Now()
	conn.Close()
	got := s.lost(3)[2]
	if late := time.Since(left); late > soon {
		t.Errorf("noticed after %v", late)
	}
	if got.PID != pid || got.Job != job || got.How != netmon.Reset || got.Foreign != addrPort(conn.LocalAddr()) {
		t.Errorf("told %+v", got)
	}

	// Woken up, the child sees it as well. That is no second client, and the job ends as the policy wants.
	s.signal(syscall.SIGCONT, pid)
	if e := s.event("end", "one"); e.Text != "client gone" {
		t.Errorf("the job ends: %s", e.Text)
	}
	s.await("rest", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running+b.Children[1].Running == 0 })
	if all := s.lost(3); len(all) != 3 {
		t.Errorf("told %d times", len(all))
	}
}

// B43: two clients of one stopped child. The record shows the older job; that of the other the child has to name itself,
// as soon as it can.
func TestSweepTwoJobs(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "POLICY=cancel", "BROOD_PREFORK=1", "BROOD_CONCURRENCY=2")
	older := s.dial("tcp4")
	askWho(t, older, "hold older")
	younger, pid := s.stopped("tcp4", "hold younger")
	younger.Close()
	older.Close()
	if got := s.lost(1)[0]; got.Job != 1 || got.Foreign != addrPort(older.LocalAddr()) {
		t.Errorf("told %+v first", got)
	}
	s.signal(syscall.SIGCONT, pid)
	if got := s.lost(2)[1]; got.Job != 2 || got.Foreign != addrPort(younger.LocalAddr()) {
		t.Errorf("told %+v then", got)
	}
	for _, id := range []string{"older", "younger"} {
		if e := s.event("end", id); e.Text != "client gone" {
			t.Errorf("%s: %s", id, e.Text)
		}
	}
	s.idle(pid, 2)
	if b := s.board(); b.Lost != 2 {
		t.Errorf("%d lost", b.Lost)
	}
}
