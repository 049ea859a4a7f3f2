package pidfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// countOpen counts the descriptors of a process that have path open, under this or a removed name.
func countOpen(t *testing.T, pid int, path string) int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err == nil && strings.TrimSuffix(to, " (deleted)") == path {
			n++
		}
	}
	return n
}

func TestRelease(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	before := countFds(t)
	f := mustTake(t, path)
	for range 3 {
		if err := f.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Release: %v, want no file", err)
	}
	if after := countFds(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	// The second call must not remove what the next holder has made.
	next := mustTake(t, path)
	if err := f.Release(); err != nil {
		t.Fatal(err)
	}
	wantSelf(t, path)
	if err := next.Release(); err != nil {
		t.Error(err)
	}
}

func TestReleaseLeavesWhatIsNotOurs(t *testing.T) { // B5
	for _, c := range []struct {
		name    string
		replace func(path string) error
	}{
		{"replaced by rename", func(p string) error {
			return errors.Join(os.WriteFile(p+".new", []byte(secret), 0o644), os.Rename(p+".new", p))
		}},
		{"removed and made anew", func(p string) error {
			return errors.Join(os.Remove(p), os.WriteFile(p, []byte(secret), 0o644))
		}},
		{"replaced by a link to ours", func(p string) error {
			return errors.Join(os.Rename(p, p+".old"), os.Symlink(p+".old", p))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pid")
			f := mustTake(t, path)
			if err := c.replace(path); err != nil {
				t.Fatal(err)
			}
			if err := f.Release(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("the new file is gone: %v", err)
			}
		})
	}
	t.Run("removed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "pid")
		f := mustTake(t, path)
		if err := errors.Join(os.Remove(path), f.Release()); err != nil {
			t.Error(err)
		}
	})
}

// The second daemon is not kept from starting by a lock on a file that no path leads to any more.
func TestTakeAfterRemoval(t *testing.T) { // B5
	path := filepath.Join(t.TempDir(), "pid")
	old := mustTake(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustTake(t, path)
	if err := old.Release(); err != nil {
		t.Fatal(err)
	}
	wantSelf(t, path)
}

// A lock on a file that was removed between open and lock is worth nothing, so Take goes back to the path.
func TestLockNamedSeesRemoval(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	dirfd, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dirfd)
	fd, err := openFile(dirfd, "pid")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	f := &File{path: path, name: "pid", dir: dirfd}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if ours, err := f.lockNamed(fd, time.Now()); ours || err != nil {
		t.Errorf("removed file: %v, %v, want false", ours, err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if ours, err := f.lockNamed(fd, time.Now()); ours || err != nil {
		t.Errorf("replaced file: %v, %v, want false", ours, err)
	}
}

func TestChildDoesNotInherit(t *testing.T) { // B4
	path := filepath.Join(t.TempDir(), "pid")
	p := start(t, "parent", path)
	var child int
	if _, err := fmt.Sscanf(p.line(), "child %d", &child); err != nil {
		t.Fatal(err)
	}
	id, err := Of(child)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if proc, err := os.FindProcess(child); err == nil && id.Alive() {
			proc.Kill()
		}
	})
	exe := fmt.Sprintf("/proc/%d/exe", child)
	until(t, "the child runs its own program", func() bool {
		to, _ := os.Readlink(exe)
		mine, _ := os.Readlink("/proc/self/exe")
		return to != "" && to != mine
	})
	if n := countOpen(t, p.Process.Pid, path); n != 1 {
		t.Errorf("the holder has the file open %d times, want 1", n)
	}
	for _, name := range []string{path, filepath.Dir(path)} {
		if n := countOpen(t, child, name); n != 0 {
			t.Errorf("the child has %s open", name)
		}
	}
	p.kill9()
	if !id.Alive() {
		t.Fatal("the child has ended too, so this shows nothing")
	}
	mustTake(t, path)
	wantSelf(t, path)
}

func TestAdopt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	p := start(t, "upgrade", path)
	// All the while, through the exec, nobody else gets the file.
	lines := make(chan string)
	go func() { s, _ := p.out.ReadString('\n'); lines <- s }()
	until(t, "the pidfile names the process", func() bool {
		id, err := Read(path)
		return err == nil && id.PID == p.Process.Pid
	})
	for done := false; !done; {
		select {
		case s := <-lines:
			if want := fmt.Sprintf("adopted %d\n", p.Process.Pid); s != want {
				t.Fatalf("got %q, want %q", s, want)
			}
			done = true
		default:
		}
		if ok, err := Held(path); !ok || err != nil {
			t.Fatalf("Held during the exec: %v, %v", ok, err)
		}
	}
	if id, err := Read(path); err != nil || id.PID != p.Process.Pid || !id.Alive() {
		t.Errorf("the file names %+v, %v", id, err)
	}
	if _, err := Take(path); err == nil {
		t.Error("Take succeeds while the adopted file is held")
	}
	p.finish()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Release: %v, want no file", err)
	}
}

func TestAdoptRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	mustTake(t, path)

	if _, err := Adopt(path, -1); !errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: %v, want EBADF", err)
	}
	// Another open file of the same name does not carry the lock.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := Adopt(path, fd); err == nil {
		t.Error("a descriptor without the lock is accepted")
	} else if _, ok := errors.AsType[*HeldError](err); !ok {
		t.Errorf("got %v, want a HeldError", err)
	}
	// A file that lies elsewhere is not this pidfile.
	other, err := unix.Open(filepath.Join(dir, "other"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	if _, err := Adopt(path, other); !errors.Is(err, errReplaced) {
		t.Errorf("got %v, want errReplaced", err)
	}
}

// A full disk is an error, not a daemon with an empty pidfile.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4096,mode=0700"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "pid")
	if _, err := Take(path); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty pidfile was left (%v)", err)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	mustTake(t, path)
	wantSelf(t, path)
}
