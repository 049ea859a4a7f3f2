package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A server is a daemon that a test has started.
type server struct {
	site   *site
	name   string
	run    string // run directory
	log    string
	pid    int
	addr   string        // its first address
	exited chan struct{} // closed when it has exited; nil: it is not a child of this process
	result error         // how, by then
}

// serve starts a daemon in the foreground and waits until it serves. It gets a run directory of its own and a free port,
// unless its flags or the environment say something else.
func (s *site) serve(env []string, program string, flags ...string) (*server, error) {
	d := &server{site: s, name: filepath.Base(program), exited: make(chan struct{})}
	id := fmt.Sprintf("%s%d", d.name, len(s.daemons)+1)
	d.log = filepath.Join(s.dir, id+".log")
	if d.run = valueOf("-run-dir", flags); d.run == "" {
		d.run = filepath.Join(s.dir, id)
		flags = append([]string{"-run-dir", d.run}, flags...)
	}
	listen := func(kv string) bool { return strings.HasPrefix(kv, "BROOD_LISTEN=") }
	if !slices.Contains(flags, "-listen") && !slices.ContainsFunc(env, listen) {
		flags = append([]string{"-listen", "127.0.0.1:0"}, flags...)
	}
	log, err := os.OpenFile(d.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := s.command(program, flags...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d.pid = cmd.Process.Pid
	s.daemons = append(s.daemons, d)
	go func() {
		d.result = cmd.Wait()
		close(d.exited)
	}()
	return d, d.arrive()
}

// valueOf returns the value of a flag that is given as two arguments.
func valueOf(name string, args []string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// attach takes on a daemon that has been started in another way, and that serves.
func (s *site) attach(run string) (*server, error) {
	d := &server{site: s, name: filepath.Base(run), run: run, log: filepath.Join(run, "error.log")}
	st, err := d.status()
	if err != nil {
		return nil, err
	}
	d.pid = st.Daemon.PID
	s.daemons = append(s.daemons, d)
	return d, d.arrive()
}

// arrive waits until the daemon serves and notes its address.
func (d *server) arrive() error {
	err := eventually(patience, func() error {
		select {
		case <-d.exited:
			b, _ := os.ReadFile(d.log)
			return failure{fmt.Errorf("%s has exited:\n%s", d.name, b)}
		default:
		}
		st, err := d.status()
		if err != nil {
			return err
		}
		if st.Daemon.PID != d.pid || st.Status.State != "serving" {
			return fmt.Errorf("%s does not serve yet: %s", d.name, st)
		}
		d.addr, _, _ = strings.Cut(st.Listen, " ")
		if name, addr, named := strings.Cut(d.addr, "="); named && !strings.ContainsAny(name, "/:") {
			d.addr = addr
		}
		return nil
	})
	d.site.last = d
	return err
}

// interrupt stops the daemon at once, as two presses of Ctrl-C do.
func (d *server) interrupt() error {
	return eventually(patience, func() error {
		if d.gone() {
			return nil
		}
		if err := kill(d.pid, syscall.SIGINT); err != nil {
			return failure{err}
		}
		return fmt.Errorf("process %d does not stop on SIGINT", d.pid)
	})
}

// gone reports whether the daemon's parent is no more.
func (d *server) gone() bool {
	if d.exited == nil {
		return isGone(d.pid)
	}
	select {
	case <-d.exited:
		return true
	default:
		return false
	}
}

// A status is what brood status --json prints.
type status struct {
	Running bool
	Daemon  struct {
		Name    string
		PID     int
		PIDFile string `json:"pid_file"`
	}
	Status struct {
		State                                   string
		Generation, Rolling                     uint64
		Want                                    int
		Born, Died, Killed, Lost, Done, Skipped uint64
		Refused                                 uint64
		ReloadAt                                time.Time `json:"reload_at"`
		ReloadOK                                bool      `json:"reload_ok"`
		Reload                                  string
	}
	Listen   string
	Children []child
}

type child struct {
	Slot, PID  int
	Generation uint64
	State      string
	Cause      string
	Done       uint64
	Skipped    uint64
	Refused    uint64
	Running    uint64
	Job        uint64
	Client     string
	Text       string
}

func (st *status) String() string {
	b, _ := json.Marshal(st)
	return string(b)
}

// status asks brood. A daemon that does not run has a status, too.
func (d *server) status() (*status, error) {
	out, err := d.site.command("brood", "status", "--json", d.run).Output()
	if exit := (*exec.ExitError)(nil); len(out) == 0 && errors.As(err, &exit) {
		return nil, fmt.Errorf("brood status: %w: %s", err, exit.Stderr)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("brood status: %w", err)
	}
	st := &status{}
	return st, json.Unmarshal(out, st)
}
