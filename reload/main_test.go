package reload

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// quick is the Settle of tests: short enough for many tests, long enough for a loaded machine to do two steps in.
const quick = 200 * time.Millisecond

// deadline is how long a test waits for what must come.
const deadline = 20 * time.Second

// TestMain lets the test binary be the program that watches itself; see child in program_test.go.
func TestMain(m *testing.M) {
	if job := os.Getenv("RELOAD_TEST_CHILD"); job != "" {
		child(job)
		return
	}
	flag.Parse()
	flag.Set("test.parallel", "32") // the tests mostly wait
	// A busy disk makes pauses of a second between the two steps of a save, which then are two saves.
	if dir := memory(); dir != "" && os.Getenv("RELOAD_TEST_DISK") == "" {
		os.Setenv("TMPDIR", dir)
		defer os.RemoveAll(dir)
	}
	m.Run()
}

// disk is the temporary directory that is not in memory.
var disk = os.TempDir()

// memory makes a directory in memory in which programs may be executed, or returns "" if there is no place for one.
func memory() string {
	const place = "/dev/shm"
	var st unix.Statfs_t
	if err := unix.Statfs(place, &st); err != nil || st.Flags&unix.ST_NOEXEC != 0 || st.Bavail*uint64(st.Bsize) < 1<<30 {
		return ""
	}
	dir, err := os.MkdirTemp(place, "reload")
	if err != nil {
		return ""
	}
	return dir
}

// probe is a Watcher under test.
type probe struct {
	t *testing.T
	w *Watcher
}

// watch opens a Set with test timing: no poll unless the Set asks for one, so that events have to do the work.
func watch(t *testing.T, s Set) *probe {
	t.Helper()
	return watchOn(t, s, linux)
}

func watchOn(t *testing.T, s Set, k kernel) *probe {
	t.Helper()
	if s.Settle == 0 {
		s.Settle = quick
	}
	if s.Poll == 0 {
		s.Poll = -1
	}
	w, err := open(s, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return &probe{t, w}
}

// next waits for a report.
func (p *probe) next() Change {
	p.t.Helper()
	select {
	case c, ok := <-p.w.Changes():
		if !ok {
			p.t.Fatal("Changes was closed")
		}
		return c
	case <-time.After(deadline):
		p.t.Fatal("no report")
	}
	return Change{}
}

// silent proves that no report comes for a few Settle periods.
func (p *probe) silent() {
	p.t.Helper()
	select {
	case c, ok := <-p.w.Changes():
		p.t.Fatalf("unexpected report %+v (open %v)", c, ok)
	case <-time.After(4 * quick):
	}
}

// once waits for a report of exactly these paths and proves that it is the only one.
func (p *probe) once(paths ...string) Change {
	p.t.Helper()
	c := p.next()
	slices.Sort(paths)
	if !slices.Equal(c.Paths, paths) || c.More != 0 {
		p.t.Fatalf("reported %v and %d more, want %v", c.Paths, c.More, paths)
	}
	p.silent()
	return c
}

// settled proves that the watcher still works: a change of its file is reported, alone.
func (p *probe) settled(path, content string) {
	p.t.Helper()
	replace(p.t, path, content)
	p.once(path)
}

// write makes or overwrites a file in place.
func write(t *testing.T, path, content string) string {
	t.Helper()
	return writeMode(t, path, content, 0o644)
}

func writeMode(t *testing.T, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// replace puts a new file over an old one in one step and keeps its mode.
func replace(t *testing.T, path, content string) {
	t.Helper()
	mode := os.FileMode(0o644)
	if fi, err := os.Stat(path); err == nil {
		mode = fi.Mode().Perm()
	}
	tmp := filepath.Join(t.TempDir(), "new")
	writeMode(t, tmp, content, mode)
	try(t, os.Rename(tmp, path))
}

func mkdir(t *testing.T, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	try(t, os.MkdirAll(dir, 0o755))
	return dir
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a tool in a directory and skips the test if it is not installed.
func run(t *testing.T, dir string, argv ...string) {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// pace notices when the machine was too slow for a test that has to write more often than Settle.
type pace struct {
	last  time.Time
	worst time.Duration
}

func (p *pace) beat() {
	now := time.Now()
	if !p.last.IsZero() {
		p.worst = max(p.worst, now.Sub(p.last))
	}
	p.last = now
}

// patiently runs a test that depends on its pace until it passes or fails at the right pace.
func patiently(t *testing.T, test func(p *pace) error) {
	t.Helper()
	for range 10 {
		var p pace
		err := test(&p)
		if err == nil {
			return
		}
		if p.worst < quick*3/4 {
			t.Fatal(err)
		}
		t.Logf("once more, there was a pause of %v: %v", p.worst, err)
	}
	t.Skip("this machine is too slow now")
}

// diary is a log that can be read while it is written.
type diary struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (d *diary) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.buf.Write(b)
}

func (d *diary) logger() *slog.Logger { return slog.New(slog.NewTextHandler(d, nil)) }

// lines returns how many lines there are and how many of them contain a text.
func (d *diary) lines(text string) (all, with int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for line := range strings.Lines(d.buf.String()) {
		all++
		if strings.Contains(line, text) {
			with++
		}
	}
	return all, with
}

// only fails unless there is exactly one line, and it contains a text.
func (d *diary) only(t *testing.T, text string) {
	t.Helper()
	if all, with := d.lines(text); all != 1 || with != 1 {
		t.Errorf("log has %d lines, %d with %q, want one:\n%s", all, with, text, fmt.Sprint(d))
	}
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.buf.String()
}
