package daemon_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// patience is how long a test waits for what must happen. Nothing is judged by its speed: this only ends a hopeless wait.
const patience = 20 * time.Second

// A site is a directory with one daemon in it, seen from outside.
type site struct {
	t      testing.TB
	dir    string
	cmd    *exec.Cmd
	exited chan struct{} // closed when the parent has ended
}

func (s *site) path(file string) string { return filepath.Join(s.dir, file) }

func (s *site) ended() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// over waits for the parent's end.
func (s *site) over(limit time.Duration) bool {
	select {
	case <-s.exited:
		return true
	case <-time.After(limit):
		return false
	}
}

// stop ends the daemon with a signal and checks that the parent calls that a success.
func (s *site) stop(sig syscall.Signal) {
	s.t.Helper()
	s.signal(sig, s.cmd.Process.Pid)
	if !s.over(patience) {
		s.t.Fatalf("the daemon does not stop:\n%s", s.cast())
	}
	if !s.cmd.ProcessState.Success() {
		s.t.Errorf("the parent: %v", s.cmd.ProcessState)
	}
}

func (s *site) signal(sig syscall.Signal, pid int) {
	s.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatalf("%v to %d: %v", sig, pid, err)
	}
}

// reload asks for a new generation and waits until it serves alone.
func (s *site) reload() *scoreboard.Snapshot {
	s.t.Helper()
	before := s.board()
	s.signal(syscall.SIGHUP, before.PID)
	return s.await("a new generation", func(b *scoreboard.Snapshot) bool {
		return b.Generation > before.Generation && b.State == "serving"
	})
}

func (s *site) log() string {
	b, _ := os.ReadFile(s.path("log"))
	return string(b)
}

func (s *site) board() *scoreboard.Snapshot {
	s.t.Helper()
	b, err := scoreboard.Read(s.path("run/scoreboard"))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// await waits until the scoreboard shows what is wanted.
func (s *site) await(what string, is func(b *scoreboard.Snapshot) bool) *scoreboard.Snapshot {
	s.t.Helper()
	var b *scoreboard.Snapshot
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		var err error
		if b, err = scoreboard.Read(s.path("run/scoreboard")); err == nil && is(b) {
			return b
		}
		if s.ended() {
			s.t.Fatalf("waiting for %s, but the daemon has ended: %v", what, s.cmd.ProcessState)
		}
	}
	text, _ := json.MarshalIndent(b, "", "  ")
	s.t.Fatalf("waiting for %s; the scoreboard:\n%s", what, text)
	return nil
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting for %s", what)
		}
	}
}

// serving returns the children that serve, by slot, after waiting until none of another generation is left.
func (s *site) serving() []scoreboard.Child {
	s.t.Helper()
	return s.await("the pool to be full", func(b *scoreboard.Snapshot) bool {
		return b.State == "serving" && len(b.Children) == b.Want && !slices.ContainsFunc(b.Children, func(c scoreboard.Child) bool {
			return c.Generation != b.Generation || c.State == scoreboard.Starting || c.State == scoreboard.Draining
		})
	}).Children
}

// child returns what the scoreboard says of a child, the zero Child if it is not there.
func (s *site) child(pid int) scoreboard.Child {
	s.t.Helper()
	for _, c := range s.board().Children {
		if c.PID == pid {
			return c
		}
	}
	return scoreboard.Child{}
}

// addr returns the address of a network that the daemon listens on: tcp4, tcp6 or unix.
func (s *site) addr(network string) string {
	s.t.Helper()
	for _, a := range strings.Fields(s.board().Listen) {
		switch {
		case strings.HasPrefix(a, "/"):
			if network == "unix" {
				return a
			}
		case strings.HasPrefix(a, "["):
			if network == "tcp6" {
				return a
			}
		case network == "tcp4":
			return a
		}
	}
	s.t.Fatalf("no %s among %s", network, s.board().Listen)
	return ""
}

// dial connects. The connection is closed at the test's end, and nothing on it takes longer than patience.
func (s *site) dial(network string) net.Conn {
	s.t.Helper()
	conn, err := net.DialTimeout(network, s.addr(network), patience)
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// eventsOf returns what has been noted so far under a name; id "" means any job.
func (s *site) eventsOf(what, id string) []event {
	s.t.Helper()
	return slices.DeleteFunc(linesOf[event](s, "events"), func(e event) bool {
		return e.What != what || id != "" && e.ID != id
	})
}

// event waits for the first event of that name.
func (s *site) event(what, id string) event {
	s.t.Helper()
	var found []event
	eventually(s.t, fmt.Sprintf("%s %s", what, id), func() bool {
		found = s.eventsOf(what, id)
		return len(found) > 0
	})
	return found[0]
}

// open lets the jobs go on that wait at this gate.
func (s *site) open(gate string) {
	s.t.Helper()
	if err := os.WriteFile(s.path("gate-"+gate), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// linesOf reads a file of JSON lines. One that is just being written is left for the next time.
func linesOf[T any](s *site, file string) []T {
	s.t.Helper()
	b, err := os.ReadFile(s.path(file))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	var all []T
	for line := range bytes.Lines(b) {
		var v T
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		if err := json.Unmarshal(line, &v); err != nil {
			s.t.Fatalf("%s: %v in %q", file, err, line)
		}
		all = append(all, v)
	}
	return all
}

// A lost is what the policy was told, as a line.
type lost struct {
	daemon.Disconnect
	HowText string
}

// lost waits until at least n clients have been lost and returns what the policy was told.
func (s *site) lost(n int) []lost {
	s.t.Helper()
	var all []lost
	eventually(s.t, fmt.Sprintf("%d lost clients", n), func() bool {
		all = linesOf[lost](s, "lost")
		return len(all) >= n
	})
	return all
}
