package pidfile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const secret = "a file of root's\n"

func TestUnsafeFile(t *testing.T) {
	for _, c := range []struct {
		name  string
		place func(path, victim string) error
		cause error
		says  string
	}{
		{"symbolic link", func(p, v string) error { return os.Symlink(v, p) }, ErrUnsafe, "symbolic link"},
		{"dangling link", func(p, v string) error { return os.Symlink(v+"x", p) }, ErrUnsafe, "symbolic link"},
		{"hard link", func(p, v string) error { return os.Link(v, p) }, ErrUnsafe, "hard links"},
		{"fifo", func(p, _ string) error { return unix.Mkfifo(p, 0o600) }, ErrUnsafe, "regular file"},
		{"directory", func(p, _ string) error { return os.Mkdir(p, 0o700) }, unix.EISDIR, ""},
		{"socket", func(p, _ string) error { return unix.Mknod(p, unix.S_IFSOCK|0o600, 0) }, unix.ENXIO, ""},
		{"group-writable", func(p, _ string) error { return write(p, 0o660) }, ErrUnsafe, "writable by group"},
		{"world-writable", func(p, _ string) error { return write(p, 0o646) }, ErrUnsafe, "writable by group"},
		{"another's", func(p, _ string) error { return errors.Join(write(p, 0o644), os.Chown(p, 12345, -1)) }, ErrUnsafe, "belongs to uid 12345"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path, victim := filepath.Join(dir, "pid"), filepath.Join(dir, "victim")
			if err := os.WriteFile(victim, []byte(secret), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.place(path, victim); err != nil {
				if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
					t.Skip("needs root")
				}
				t.Fatal(err)
			}
			before := countFds(t)
			_, err := Take(path)
			if !errors.Is(err, c.cause) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q, the path, and %v", err, c.says, c.cause)
			}
			if after := countFds(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
			if got, err := os.ReadFile(victim); err != nil || string(got) != secret {
				t.Errorf("the other file now says %q (%v)", got, err)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Error("what was there has been removed")
			}
			if c.name == "symbolic link" || c.name == "fifo" {
				if _, err := Read(path); err == nil {
					t.Error("Read accepts it")
				}
				if _, err := Held(path); err == nil {
					t.Error("Held accepts it")
				}
			}
		})
	}
}

func write(path string, mode os.FileMode) error {
	return errors.Join(os.WriteFile(path, nil, mode), os.Chmod(path, mode)) // chmod: past the umask
}

func TestUnsafeDirectory(t *testing.T) {
	for _, c := range []struct {
		name string
		mode os.FileMode
		uid  int
		says string
	}{
		{"group-writable", 0o770, -1, "writable by group or others (mode 0770)"},
		{"world-writable", 0o707, -1, "writable by group or others (mode 0707)"},
		{"another's", 0o755, 12345, "belongs to uid 12345"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, c.mode)); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(dir, c.uid, -1); err != nil {
				t.Skip("needs root")
			}
			_, err := Take(filepath.Join(dir, "pid"))
			if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "directory "+dir+" ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q and the directory", err, c.says)
			}
			if _, err := os.Lstat(filepath.Join(dir, "pid")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file was made all the same (%v)", err)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		_, err := Take(filepath.Join(t.TempDir(), "none", "pid"))
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v, want ErrNotExist", err)
		}
	})
}

// Root must not use /tmp; everybody else may, but not where another user's file is.
func TestStickyDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to play both parts")
	}
	dir, err := os.MkdirTemp("", "sticky") // not t.TempDir: its parent may be closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "pid")
	if _, err := Take(path); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), "(mode 1777)") {
		t.Errorf("root: got %v, want a refusal", err)
	}

	asNobody := func(c *exec.Cmd) {
		c.Dir = "/"
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	p := start(t, "hold", path, asNobody)
	p.says("won %d", p.Process.Pid)
	p.finish()

	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p = start(t, "hold", path, asNobody)
	if got := p.line(); !strings.HasPrefix(got, "error: take pidfile "+path) {
		t.Errorf("at a file of root's: %q, want an error", got)
	}

	if err := os.Chmod(dir, 0o777); err != nil { // not sticky: no good for anybody
		t.Fatal(err)
	}
	p = start(t, "hold", path+"2", asNobody)
	if got := p.line(); !strings.Contains(got, "(mode 0777)") {
		t.Errorf("without the sticky bit: %q, want an error", got)
	}
}

// A file whose name is gone before we have locked it is opened anew; one whose name always goes ends in an error.
func TestCheckFileWithoutName(t *testing.T) {
	if err := checkFile(&unix.Stat_t{Mode: unix.S_IFREG | 0o600, Nlink: 0}, 0); !errors.Is(err, errReplaced) {
		t.Errorf("got %v, want errReplaced", err)
	}
}

func countFds(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
