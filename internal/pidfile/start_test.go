package pidfile

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSimultaneousStarts(t *testing.T) { // B3
	for _, n := range []int{50, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			if n > 50 && testing.Short() {
				t.Skip("only 50 with -short")
			}
			path := filepath.Join(t.TempDir(), "pid")
			// What a crash has left; the losers must name the winner, not this.
			if err := os.WriteFile(path, []byte("1\nstart=1 boot="+someBoot+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			raceStarts(t, path, n)
		})
	}
}

func raceStarts(t *testing.T, path string, n int) {
	gate, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	procs := make([]*proc, n)
	for i := range procs {
		procs[i] = start(t, "gated", path, func(c *exec.Cmd) { c.ExtraFiles = []*os.File{gate} })
	}
	for _, p := range procs {
		p.says("ready")
	}
	gate.Close()
	open.Close()

	var winner *proc
	named := map[int]int{}
	for _, p := range procs {
		var verb string
		var pid int
		line := p.line()
		if _, err := fmt.Sscan(line, &verb, &pid); err != nil {
			t.Fatalf("process %d says %q", p.Process.Pid, line)
		}
		if verb == "held" {
			named[pid]++
		} else if winner != nil {
			t.Fatalf("both %d and %d hold the pidfile", winner.Process.Pid, p.Process.Pid)
		} else {
			winner = p
		}
	}
	if winner == nil {
		t.Fatal("nobody holds the pidfile")
	}
	pid := winner.Process.Pid
	if named[pid] != n-1 {
		t.Errorf("the losers name %v, want %d times %d", named, n-1, pid)
	}
	if id, err := Read(path); err != nil || id.PID != pid || !id.Alive() {
		t.Errorf("the file names %+v (%v), want pid %d, alive", id, err, pid)
	}
	winner.finish()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Release: %v, want no file", err)
	}
}

// Starts and stops that overlap: nobody fails for any reason but the lock, and the lock never has two owners.
func TestStartsRaceWithStops(t *testing.T) { // B3 B5
	path := filepath.Join(t.TempDir(), "pid")
	const procs, rounds = 4, 30
	errs := make(chan error, procs)
	for range procs {
		go func() {
			for range rounds {
				out, err := roleCommand("once", path).Output()
				if err != nil && !strings.Contains(string(out), "already running") {
					errs <- fmt.Errorf("%w: %s", err, out)
					return
				}
			}
			errs <- nil
		}()
	}
	for range procs {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("at the end: %v, want no file", err)
	}
}

func TestHeldError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	p := start(t, "hold", path)
	p.says("won %d", p.Process.Pid)

	f, err := Take(path)
	held, ok := errors.AsType[*HeldError](err)
	if !ok || f != nil {
		t.Fatalf("Take gives %v, %v, want a HeldError", f, err)
	}
	want := fmt.Sprintf("pidfile %s is held by pid %d (already running)", path, p.Process.Pid)
	if held.PID != p.Process.Pid || held.Path != path || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if ok, err := Held(path); !ok || err != nil {
		t.Errorf("Held: %v, %v, want true", ok, err)
	}

	// A holder that the file does not name is unknown, whoever the file does name.
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d\nstart=1 boot=%s\n", os.Getpid(), someBoot), 0); err != nil {
		t.Fatal(err)
	}
	_, err = Take(path)
	want = fmt.Sprintf("pidfile %s is held by another process (already running)", path)
	if err == nil || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestTakeTwiceInOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	mustTake(t, path)
	_, err := Take(path)
	if held, ok := errors.AsType[*HeldError](err); !ok || held.PID != os.Getpid() {
		t.Errorf("got %v, want held by this process", err)
	}
}

func TestStartAfterKill(t *testing.T) { // B2
	path := filepath.Join(t.TempDir(), "pid")
	p := start(t, "hold", path)
	p.says("won %d", p.Process.Pid)
	p.kill9()
	if id, err := Read(path); err != nil || id.Alive() {
		t.Errorf("after kill -9 the file names %+v (%v), alive %v; want it there and dead", id, err, id.Alive())
	}
	if ok, err := Held(path); ok || err != nil {
		t.Errorf("Held: %v, %v, want false", ok, err)
	}
	mustTake(t, path)
	wantSelf(t, path)
}

func TestStaleContent(t *testing.T) { // B1 B2
	other, err := Of(stranger(t).Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	reused := other
	reused.Start-- // the process that the file speaks of had this number before
	if reused.Alive() {
		t.Error("a process that started at another time is said to be alive")
	}
	for name, content := range map[string]string{
		"empty":            "",
		"garbage":          "no pid here\n",
		"old form":         "12345\n",
		"binary":           "\x00\xff\x1b[2J\x00",
		"huge":             strings.Repeat("9", 1<<20),
		"long dead":        "4194304\nstart=1 boot=" + other.BootID + "\n",
		"pid 0":            "0\nstart=0 boot=" + other.BootID + "\n",
		"negative pid":     "-1\nstart=5 boot=" + other.BootID + "\n",
		"reused pid":       string(reused.text()),
		"a live stranger":  string(other.text()),
		"our own old line": fmt.Sprintf("%d\nstart=1 boot=%s\n", os.Getpid(), other.BootID),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pid")
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			mustTake(t, path)
			wantSelf(t, path)
		})
	}
	if !other.Alive() {
		t.Error("the stranger was harmed")
	}
}

// A look at the lock takes an instant, and a start in that instant must not fail.
func TestTakeWaitsForALook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := openToRead(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(fd, unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	taken := make(chan error)
	go func() {
		f, err := Take(path)
		if err == nil {
			defer f.Release()
		}
		taken <- err
	}()
	// The look ends as soon as Take is seen to wait at our lock, that is, has the file open.
	until(t, "Take opens the file", func() bool { return countOpen(t, os.Getpid(), path) > 1 })
	unix.Close(fd)
	if err := <-taken; err != nil {
		t.Error(err)
	}
}

func TestHeldWithoutFile(t *testing.T) {
	if ok, err := Held(filepath.Join(t.TempDir(), "pid")); ok || err != nil {
		t.Errorf("Held: %v, %v, want false", ok, err)
	}
}

func TestNewFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	old := syscall.Umask(0)
	f, err := Take(path)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release()
	st, err := os.Lstat(path)
	if err != nil || st.Mode() != 0o644 {
		t.Errorf("mode %v (%v), want 0644", st.Mode(), err)
	}
	if f.Path() != path {
		t.Errorf("Path %q, want %q", f.Path(), path)
	}
}

func TestRelativePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f := mustTake(t, "pid")
	if want := filepath.Join(dir, "pid"); f.Path() != want {
		t.Errorf("Path %q, want %q", f.Path(), want)
	}
	t.Chdir("/")
	if err := f.Release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after chdir and Release: %v, want no file", err)
	}
}
