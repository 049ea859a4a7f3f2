package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/scoreboard"
)

// patience ends a hopeless wait.
const patience = 20 * time.Second

// A fake is a daemon as far as its files go.
type fake struct {
	t     *testing.T
	dir   string
	board *scoreboard.Board
}

// self is the parent of most fakes: it is alive.
func self(t *testing.T) pidfile.Identity {
	t.Helper()
	id, err := pidfile.Self()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// newFake makes the board of a daemon in dir, in the place of one that is there.
func newFake(t *testing.T, dir string, parent pidfile.Identity) *fake {
	t.Helper()
	b, err := scoreboard.Create(filepath.Join(dir, control.BoardName), scoreboard.Identity{
		Name: "fake", PID: parent.PID, Start: parent.Start, BootID: parent.BootID, Program: "/bin/fake", PIDFile: dir + "/pid", ErrorLog: "-",
	}, 8)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t, dir, b}
	t.Cleanup(func() { b.Remove() })
	f.status(scoreboard.Status{State: "serving", Generation: 1, Want: 2})
	return f
}

func (f *fake) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) status(s scoreboard.Status) {
	f.t.Helper()
	f.must(f.board.SetStatus(s, time.Now()))
}

// child fills a slot, and returns the child's end of it.
func (f *fake) child(slot, pid int, generation uint64) *scoreboard.Slot {
	f.t.Helper()
	f.must(f.board.Bear(slot, scoreboard.Serve, generation, "start", time.Now()))
	f.must(f.board.SetPID(slot, pid))
	f.must(f.board.SetPhase(slot, scoreboard.PhaseServing))
	s, err := scoreboard.Attach(f.board.FD(), slot)
	f.must(err)
	f.t.Cleanup(func() { s.Detach() })
	s.SetState(scoreboard.Idle, time.Now())
	return s
}

// work has a child work on a job.
func work(s *scoreboard.Slot, serial uint64, text string) {
	now := time.Now()
	job := scoreboard.Record{Serial: serial, Started: now, Client: "192.0.2.1:999", Text: text}
	s.SetWork(scoreboard.Work{State: scoreboard.Working, Since: now, Running: 1, Job: job})
}

// newServer makes a server for fakes of which each has a name.
func newServer(t *testing.T, daemons ...Daemon) *Server {
	t.Helper()
	s, err := New(daemons)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// get asks a server's handler.
func get(t *testing.T, s *Server, path string) (int, http.Header, string) {
	t.Helper()
	r := httptest.NewRequest("GET", "http://localhost"+path, nil)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, w.Header(), string(b)
}

// sleeper starts a process that does nothing.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

func identityOf(t *testing.T, cmd *exec.Cmd) pidfile.Identity {
	t.Helper()
	id, err := pidfile.Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// ended returns the process id of a process that is no more.
func ended(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// until waits until a process is in a state of the kernel's.
func until(t *testing.T, pid int, is func(view.Process) bool) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		p, err := view.ProcessOf(pid)
		if err != nil {
			t.Fatal(err)
		}
		if is(p) {
			return
		}
		if time.Since(begun) > patience {
			t.Fatalf("process %d is in state %q", pid, p.State)
		}
	}
}

func signal(t *testing.T, pid int, s unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
