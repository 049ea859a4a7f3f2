package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A site is where one test works: a directory, and the daemons, clients and processes that the test has started.
// Everything that is started on a site has WORK=DIR in its environment, and passes that on; so whatever a test
// leaves behind can be found, whoever its parent is by then.
type site struct {
	tb      testing.TB
	dir     string
	daemons []*server
	last    *server // "the daemon" of scripts
	visits  map[string]*visit
	load    *load
	undo    []func()
}

func newSite(tb testing.TB, dir string) *site {
	return &site{tb: tb, dir: dir, visits: map[string]*visit{}}
}

// openSite makes a site for a Go test.
func openSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, dir)
	t.Cleanup(s.clear)
	return s
}

func (s *site) environ() []string {
	return []string{
		"WORK=" + s.dir, "PATH=" + os.Getenv("PATH"), "HOME=/no-home", "TMPDIR=" + s.dir,
		"GORACE=" + raceOptions,
		// As many children as a test asks for, unless it says otherwise.
		"BROOD_POOL=static",
		// WORK is how a test knows its processes.
		"BROOD_SOAK=50ms", "BROOD_AUTO_RELOAD_WHEN=always", "BROOD_ENVIRON=WORK",
	}
}

// command prepares a program to run on this site.
func (s *site) command(program string, args ...string) *exec.Cmd {
	if !strings.ContainsRune(program, '/') {
		if path := filepath.Join(bin, program); exists(path) {
			program = path
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = s.dir, s.environ()
	return cmd
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// clear ends all that was started here. Whatever does not go as it should fails the test: a daemon that does not stop, or
// a process that outlives its daemon.
func (s *site) clear() {
	if s.load != nil {
		s.load.end()
	}
	for _, v := range s.visits {
		v.conn.Close()
	}
	for _, f := range slices.Backward(s.undo) {
		f()
	}
	// One that was stopped by a signal could not obey.
	for _, p := range s.processes() {
		if p.state == 'T' {
			syscall.Kill(p.pid, syscall.SIGCONT)
		}
	}
	for _, d := range s.daemons {
		if err := d.interrupt(); err != nil {
			s.tb.Errorf("%s: %v", d.name, err)
		}
	}
	if err := eventually(patience, s.empty); err != nil {
		s.tb.Errorf("processes outlive their daemon: %v", err)
		for _, p := range s.processes() {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	for _, d := range s.daemons {
		log, err := os.ReadFile(d.log)
		if err != nil {
			continue
		}
		if bytes.Contains(log, []byte("DATA RACE")) {
			s.tb.Errorf("%s has a data race", d.name)
		}
		if s.tb.Failed() {
			s.tb.Logf("log of %s in %s:\n%s", d.name, d.run, tail(log, 200))
		}
	}
	os.RemoveAll(s.dir)
}

func tail(b []byte, lines int) []byte {
	all := bytes.SplitAfter(b, []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], nil)
}

// empty returns an error that names the processes that are left.
func (s *site) empty() error {
	ps := s.processes()
	if len(ps) == 0 {
		return nil
	}
	var names []string
	for _, p := range ps {
		names = append(names, p.String())
	}
	return fmt.Errorf("%d: %s", len(ps), strings.Join(names, "; "))
}

// A failure is an error that waiting does not mend.
type failure struct{ error }

// eventually tries f until it returns nil, and returns its last error when time is up.
func eventually(limit time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for pause := 2 * time.Millisecond; ; pause = min(pause*3/2, 50*time.Millisecond) {
		err := f()
		if err == nil {
			return nil
		}
		if _, final := err.(failure); final {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w (waited %v)", err, limit)
		}
		time.Sleep(pause)
	}
}
