package daemon_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// networks are those a scenario listens on here.
func networks() []string {
	if hasIPv6() {
		return []string{"tcp4", "tcp6", "unix"}
	}
	return []string{"tcp4", "unix"}
}

// idle waits until a child runs no job and has done n.
func (s *site) idle(pid int, done uint64) {
	s.t.Helper()
	s.await("an idle child", func(b *scoreboard.Snapshot) bool {
		return slices.ContainsFunc(b.Children, func(c scoreboard.Child) bool {
			return c.PID == pid && c.State == scoreboard.Idle && c.Running == 0 && c.Done == done
		})
	})
}

// One job after the other: the second client waits until the first one's body has ended.
func TestConnsSequential(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1")
	first := s.dial("tcp4")
	pid, slot := askWho(t, first, "gate one")
	c := s.child(pid)
	if c.State != scoreboard.Working || c.Slot != slot || c.Running != 1 || c.Job != 1 || c.Client != first.LocalAddr().String() {
		t.Errorf("while it works: %+v", c)
	}
	second := s.dial("tcp4")
	say(t, second, "gate two")
	s.open("two")
	s.open("one")
	if rest, err := io.ReadAll(first); string(rest) != "bye\n" || err != nil {
		t.Errorf("the end of the first answer: %q, %v", rest, err)
	}
	io.ReadAll(second)
	var order []string
	for _, e := range linesOf[event](s, "events") {
		order = append(order, e.What+" "+e.ID)
	}
	if want := []string{"begin one", "end one", "begin two", "end two"}; !slices.Equal(order, want) {
		t.Errorf("got %q, want %q", order, want)
	}
	s.idle(pid, 2)
}

// However the body of the loop ends, the connection is closed, the job is over, and the child takes the next.
func TestConnsBodyEnds(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1")
	pid := s.serving()[0].PID
	done := uint64(0)
	for _, network := range networks() {
		for _, verb := range []string{"break", "panic", "goexit"} {
			id := network + verb
			conn := s.dial(network)
			say(t, conn, verb+" "+id)
			if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
				t.Errorf("%s %s: the client reads %q, %v", network, verb, rest, err)
			}
			done++
			if e := s.event("begin", id); e.PID != pid {
				t.Fatalf("%s: child %d has become %d", verb, pid, e.PID)
			}
			s.idle(pid, done)
		}
	}
}

// B30: an end of file reaches the client at once when the job closes the connection, while the job still runs.
func TestConnsCloseReachesClient(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1")
	for i, network := range networks() {
		for _, verb := range []string{"close", "shut"} {
			conn := s.dial(network)
			say(t, conn, verb+" "+verb+network)
			if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
				t.Errorf("%s %s: the client reads %q, %v", network, verb, rest, err)
			}
			e := s.event("begin", verb+network)
			if c := s.child(e.PID); c.State != scoreboard.Working || c.Running != 1 {
				t.Errorf("%s %s: the job is not running: %+v", network, verb, c)
			}
			s.open(verb + network)
			if e := s.event("end", verb+network); e.Text != "not cancelled" {
				t.Errorf("%s %s: the job ends: %s", network, verb, e.Text)
			}
		}
		s.idle(s.serving()[0].PID, uint64(2*i+2))
	}
}

// B30: a listener or a connection in blocking mode could not be drained, and deadlines would have no effect. One process
// that changes the mode changes it for all.
func TestNothingBlocks(t *testing.T) {
	t.Parallel()
	s := start(t, forks)
	check := func(when string) {
		t.Helper()
		pids := []int{s.board().PID}
		for _, c := range s.serving() {
			pids = append(pids, c.PID)
		}
		for _, network := range networks() {
			inode := listenerInode(t, network, s.addr(network))
			for _, pid := range pids {
				fds := descriptors(t, pid, inode)
				if len(fds) != 1 {
					t.Errorf("%s: process %d has the %s listener as %v, want one descriptor", when, pid, network, fds)
				}
				for _, fd := range fds {
					if blocking(t, pid, fd) {
						t.Errorf("%s: the %s listener is in blocking mode", when, network)
					}
				}
			}
			conn := s.dial(network)
			var isBlocking string
			var inodeOfConn uint64
			answer := ask(t, conn, "flags")
			if _, err := fmt.Sscan(answer, &isBlocking, &inodeOfConn); err != nil || isBlocking != "false" {
				t.Errorf("%s: a %s connection: %s", when, network, answer)
			}
			if answer := ask(t, s.dial(network), "deadline"); answer != "true" {
				t.Errorf("%s: a deadline on a %s connection: %s", when, network, answer)
			}
		}
	}
	check("at first")
	for range 3 {
		s.reload()
		check("after a reload")
	}
	dead := s.serving()[0].PID
	s.signal(syscall.SIGKILL, dead)
	s.await("a new child", func(b *scoreboard.Snapshot) bool { return b.Died == 1 })
	check("after a death")
}

// B30: an accepted connection is in the child under one descriptor, and nobody else has it.
func TestConnHasNoDuplicate(t *testing.T) {
	t.Parallel()
	s := start(t, lines)
	for _, network := range networks() {
		var isBlocking string
		var inode uint64
		conn := s.dial(network)
		answer := ask(t, conn, "flags")
		fmt.Sscan(answer, &isBlocking, &inode)
		if _, err := io.ReadAll(conn); err != nil || inode == 0 {
			t.Fatalf("%s: %q, %v", network, answer, err)
		}
		for _, p := range s.processes() {
			if fds := descriptors(t, p.pid, inode); len(fds) > 0 {
				t.Errorf("after its end %s has the %s connection as %v", p.name, network, fds)
			}
		}
	}
	conn := s.dial("tcp4")
	pid, _ := askWho(t, conn, "gate held")
	found := 0
	for _, p := range s.processes() {
		for _, inode := range connectionInodes(t, conn) {
			if fds := descriptors(t, p.pid, inode); len(fds) > 0 {
				found++
				if p.pid != pid || len(fds) != 1 {
					t.Errorf("%d %s has the connection as %v", p.pid, p.name, fds)
				}
			}
		}
	}
	if found != 1 {
		t.Errorf("%d processes have the connection", found)
	}
	s.open("held")
}

// connectionInodes returns the inodes of the server's end of a client's connection.
func connectionInodes(t testing.TB, conn net.Conn) []uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	var inodes []uint64
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) > 9 && strings.HasSuffix(f[1], hexPort(conn.RemoteAddr().String())) &&
			strings.HasSuffix(f[2], hexPort(conn.LocalAddr().String())) {
			var inode uint64
			fmt.Sscan(f[9], &inode)
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// endings is a daemon whose main loops end as a client says.
var endings = scenario("endings", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		for conn := range c.Conns(ctx) {
			how, _ := bufio.NewReader(conn).ReadString('\n')
			switch strings.TrimSpace(how) {
			case "return":
				return nil
			case "fail":
				return errors.New("no luck")
			case "panic":
				panic("main loop gone mad")
			case "goexit":
				runtime.Goexit()
			}
		}
		return nil
	})
})

// B17: a main loop that ends by itself, however, ends its process. The parent replaces it; it starts none itself.
func TestMainLoopEnds(t *testing.T) {
	t.Parallel()
	s := start(t, endings, "BROOD_PREFORK=5")
	parent := s.board().PID
	for i, c := range []struct{ how, status, text string }{
		{"return", "exit status 0", ""},
		{"fail", "exit status 1", "main loop failed: no luck"},
		{"panic", "exit status 2", "panic: main loop gone mad"},
		{"goexit", "exit status 1", ""},
	} {
		conn := s.dial("tcp4")
		say(t, conn, c.how)
		io.ReadAll(conn)
		// The first death is made good at once; children that go on dying young are put off.
		s.await("a death", func(b *scoreboard.Snapshot) bool { return b.Died == uint64(i+1) && b.Born >= 6 })
		// The log's queue is written by and by.
		eventually(t, c.how+" in the log", func() bool {
			var deaths []string
			for line := range strings.Lines(s.log()) {
				if strings.Contains(line, `msg="child died"`) {
					deaths = append(deaths, line)
				}
			}
			return len(deaths) == i+1 && strings.Contains(deaths[i], c.status) && strings.Contains(s.log(), c.text)
		})
		for _, p := range s.processes() {
			if p.pid != parent && p.ppid != parent {
				t.Errorf("%s: a stranger: %+v", c.how, p)
			}
		}
	}
}
