package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Two writers of one file lose lines without a word, so there is only one.
func TestSecondWriterIsRefused(t *testing.T) { // B49
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{Plain: true}, 4)
	second := func(when string) {
		t.Helper()
		if _, err := Open(path, Rotate{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want ErrInUse", when, err)
		}
	}
	second("at first")
	mustWrite(t, f, "one\n")
	mustWrite(t, f, "two\n")
	second("after a rotation")
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	second("after Reopen")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, Rotate{Plain: true}, 0)
}

func TestUnfitFile(t *testing.T) {
	for _, c := range []struct {
		name  string
		place func(path, victim string) error
		cause error
	}{
		{"symbolic link", func(p, v string) error { return os.Symlink(v, p) }, ErrUnsafe},
		{"dangling link", func(p, v string) error { return os.Symlink(v+"x", p) }, ErrUnsafe},
		{"fifo", func(p, _ string) error { return unix.Mkfifo(p, 0o600) }, ErrUnsafe},
		{"directory", func(p, _ string) error { return os.Mkdir(p, 0o700) }, unix.EISDIR},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(scratch(t), "error.log")
			victim := path + ".victim"
			if err := errors.Join(os.WriteFile(victim, nil, 0o600), c.place(path, victim)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path, Rotate{}); !errors.Is(err, c.cause) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %v and the path", err, c.cause)
			}
			if _, err := os.Lstat(victim + "x"); err == nil {
				t.Error("the link was followed")
			}
		})
	}
	t.Run("fifo with a reader", func(t *testing.T) {
		path := filepath.Join(scratch(t), "error.log")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if _, err := Open(path, Rotate{}); !errors.Is(err, ErrUnsafe) {
			t.Errorf("got %v, want ErrUnsafe", err)
		}
	})
}

func TestUnsafeDirectoryForRoot(t *testing.T) { // CVE-2016-1247
	if os.Geteuid() != 0 {
		t.Skip("needs root, whom the rules are for")
	}
	dir := scratch(t)
	path := filepath.Join(dir, "error.log")
	refused := func(says string) {
		t.Helper()
		_, err := Open(path, Rotate{})
		if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	for mode, says := range map[os.FileMode]string{0o770: "(mode 0770)", 0o707: "(mode 0707)"} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		refused(says)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, 12345, -1)); err != nil {
		t.Fatal(err)
	}
	refused("belongs to uid 12345")
	if _, err := os.Lstat(path); err == nil {
		t.Error("a refused log was made all the same")
	}

	// In a sticky directory our own file is good, and is not compressed.
	if err := errors.Join(os.Chown(dir, 0, -1), os.Chmod(dir, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	f := open(t, path, Rotate{}, 4)
	mustWrite(t, f, "one\n")
	mustWrite(t, f, "two\n")
	if f.lj.Compress || len(backups(t, path)) != 1 || content(t, path) != "two\n" {
		t.Errorf("compress %v, old files %v", f.lj.Compress, backups(t, path))
	}
	f.Close()
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	refused("") // by our rule, or by the kernel's (fs.protected_regular)
	if err := errors.Join(os.Chown(path, 0, -1), os.Link(path, path+".link")); err != nil {
		t.Fatal(err)
	}
	refused("2 hard links")
}

// A directory that becomes sticky and open while we log there would let lumberjack follow a stranger's link.
func TestDirectoryOpenedToOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whom the rules are for")
	}
	dir := scratch(t)
	f := open(t, filepath.Join(dir, "error.log"), Rotate{}, 0)
	mustWrite(t, f, "one\n")
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); !errors.Is(err, ErrUnsafe) {
		t.Errorf("got %v, want ErrUnsafe", err)
	}
	mustWrite(t, f, "two\n")
}

// Everybody but root may log where he likes.
func TestOthersAreNotBound(t *testing.T) {
	dir := scratch(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	p, err := openPlace(filepath.Join(dir, "error.log"), 12345)
	if err != nil {
		t.Fatal(err)
	}
	p.file.Close()
}

// The log is for this process alone.
func TestLogIsCloseOnExec(t *testing.T) { // B4
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{}, 0)
	mustWrite(t, f, "one\n")
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range fds {
		to, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if to != path {
			continue
		}
		found++
		info, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		var flags uint64
		for line := range strings.Lines(string(info)) {
			if rest, ok := strings.CutPrefix(line, "flags:"); ok {
				fmt.Sscanf(strings.TrimSpace(rest), "%o", &flags)
			}
		}
		if err != nil || flags&unix.O_CLOEXEC == 0 || flags&unix.O_APPEND == 0 {
			t.Errorf("descriptor %s: flags %o (%v), want close-on-exec and append", e.Name(), flags, err)
		}
	}
	if found != 2 {
		t.Errorf("the log is open %d times, want 2", found)
	}
}
