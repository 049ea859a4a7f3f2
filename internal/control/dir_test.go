package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "jobd", "Job-Daemon_2.1", "0", "_", "a.", "a-", "a..b", strings.Repeat("x", 64)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", ".hidden", "-flag", "a/b", "/a", "../a", "a b", "a\n", "a\x00", "jöb", "a\xff", "a:b", "a%d", "a*",
		strings.Repeat("x", 65),
	} {
		if err := CheckName(name); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%q: %v, want an error that quotes it", name, err)
		}
	}
}

func TestRunDir(t *testing.T) {
	uid, other := -1, os.Geteuid()
	if os.Geteuid() == 0 {
		t.Setenv("XDG_RUNTIME_DIR", "/run/user/0")
		if got := RunDir("jobd"); got != "/run/jobd" {
			t.Errorf("root: %s, want /run/jobd", got)
		}
		uid, other = nobody, nobody
	}
	for _, c := range []struct{ env, want string }{
		{"XDG_RUNTIME_DIR=/run/user/7", "/run/user/7/jobd"},
		{"XDG_RUNTIME_DIR=run/user/7", fmt.Sprintf("/tmp/jobd-%d", other)}, // it has to be absolute, or it does not count
		{"XDG_RUNTIME_DIR=", fmt.Sprintf("/tmp/jobd-%d", other)},
		{"TMPDIR=/var/tmp", fmt.Sprintf("/var/tmp/jobd-%d", other)},
	} {
		if got := output(t, role("rundir", "jobd", uid, c.env)); got != c.want {
			t.Errorf("%s: %s, want %s", c.env, got, c.want)
		}
	}
}

func TestMakeDir(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	base := t.TempDir()
	dir := filepath.Join(base, "run")
	for _, path := range []string{dir, dir, dir + "/"} { // made, and found again
		must(t, MakeDir(path))
		if st, err := os.Lstat(dir); err != nil || st.Mode() != os.ModeDir|0o700 {
			t.Errorf("%s: %v (%v), want a directory with mode 0700", path, st.Mode(), err)
		}
	}
	// One that others can read has been given to us so: its mode is left alone.
	must(t, os.Chmod(dir, 0o755))
	must(t, MakeDir(dir))
	if st, _ := os.Lstat(dir); st.Mode() != os.ModeDir|0o755 {
		t.Errorf("mode %v, want 0755 as before", st.Mode())
	}
	if err := MakeDir(filepath.Join(base, "no", "run")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "no/run") {
		t.Errorf("without a place for it: %v", err)
	}
}

func TestMakeDirRefuses(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	for _, c := range []struct {
		name  string
		place func(dir, other string) error
		says  string
		root  bool
	}{
		{"file", func(d, o string) error { return os.WriteFile(d, nil, 0o600) }, "is not a directory", false},
		{"symlink", func(d, o string) error { return os.Symlink(o, d) }, "is not a directory", false},
		{"dangling symlink", func(d, o string) error { return os.Symlink(o+"2", d) }, "is not a directory", false},
		{"fifo", func(d, o string) error { return unix.Mkfifo(d, 0o600) }, "is not a directory", false},
		{"group-writable", func(d, o string) error { return os.Mkdir(d, 0o770) }, "can be written by others (mode 0770)", false},
		{"only by the group", func(d, o string) error { return os.Mkdir(d, 0o720) }, "(mode 0720)", false},
		{"world-writable", func(d, o string) error { return os.Mkdir(d, 0o702) }, "(mode 0702)", false},
		{"like /tmp", func(d, o string) error { return errors.Join(os.Mkdir(d, 0o700), unix.Chmod(d, 0o1777)) }, "(mode 01777)", false},
		{"another's", func(d, o string) error { return errors.Join(os.Mkdir(d, 0o700), os.Chown(d, nobody, -1)) },
			"belongs to user 65534, not to user 0", true},
		{"another's symlink", func(d, o string) error { return errors.Join(os.Symlink(o, d), os.Lchown(d, nobody, -1)) },
			"is not a directory", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("needs root, to make a directory of another user's")
			}
			base := t.TempDir()
			dir, other := filepath.Join(base, "run"), filepath.Join(base, "other")
			must(t, os.Mkdir(other, 0o700))
			must(t, c.place(dir, other))
			for _, path := range []string{dir, dir + "/", dir + "/."} {
				err := MakeDir(path)
				if err == nil || !strings.Contains(err.Error(), "run directory "+dir+" ") || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %v, want the directory's name and %q", path, err, c.says)
				}
			}
			if _, err := os.Lstat(other + "2"); err == nil {
				t.Error("a directory was made where the link leads")
			}
		})
	}
}
