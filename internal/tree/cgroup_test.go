package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const hybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 master:1 - cgroup2 cgroup2 rw
`

func TestCgroupDirs(t *testing.T) {
	const line = "41 31 0:38 %s %s rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	for _, c := range []struct {
		info, path string
		want       []string
	}{
		{hybrid, "/", []string{"/sys/fs/cgroup/unified"}},
		{hybrid, "/a.slice/b.service", []string{"/sys/fs/cgroup/unified/a.slice/b.service"}},
		{fmt.Sprintf(line, "/", "/sys/fs/cgroup"), "/a", []string{"/sys/fs/cgroup/a"}},
		// A container with a part of the host's hierarchy.
		{fmt.Sprintf(line, "/docker/1", "/sys/fs/cgroup"), "/docker/1/x", []string{"/sys/fs/cgroup/x"}},
		{fmt.Sprintf(line, "/docker/1", "/sys/fs/cgroup"), "/docker/1", []string{"/sys/fs/cgroup"}},
		{fmt.Sprintf(line, "/docker/1", "/sys/fs/cgroup"), "/docker/12", nil},
		{fmt.Sprintf(line, "/docker/1", "/sys/fs/cgroup"), "/", nil},
		// A cgroup namespace: what is mounted, or where the process is, lies outside.
		{fmt.Sprintf(line, "/../..", "/sys/fs/cgroup"), "/", nil},
		{fmt.Sprintf(line, "/", "/sys/fs/cgroup"), "/../other", nil},
		{fmt.Sprintf(line, "/", "/sys/fs/cgroup"), "/..other", []string{"/sys/fs/cgroup/..other"}},
		{fmt.Sprintf(line, "/", `/a\040b\134c`), "/d", []string{`/a b\c/d`}},
		{fmt.Sprintf(line, "/", `/a\`), "/d", []string{`/a\/d`}},
		{fmt.Sprintf(line, "/", "/one") + fmt.Sprintf(line, "/d", "/two"), "/d/e", []string{"/one/d/e", "/two/e"}},
		{"41 31 0:38 / /x rw - cgroup cgroup rw\n41 31 - cgroup2 x\nnonsense\n", "/", nil},
	} {
		if got := cgroupDirs([]byte(c.info), c.path); !slices.Equal(got, c.want) {
			t.Errorf("%q in %q: got %q, want %q", c.path, c.info, got, c.want)
		}
	}
}

func TestUnifiedPath(t *testing.T) {
	for text, want := range map[string]string{
		"9:name=systemd:/a\n4:memory:/b\n0::/c d\n": "/c d",
		"0::/\n":                "/",
		"0::/gone (deleted)\n":  "",
		"9:name=systemd:/a\n":   "",
		"":                      "",
		"10::/x\n0:y:/z\n0::\n": "",
	} {
		got, ok := unifiedPath([]byte(text))
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, ok, want)
		}
	}
}

// testGroup makes a cgroup that is removed with everything in it.
func testGroup(t *testing.T) *Group {
	t.Helper()
	top, err := theProc.cgroup()
	if err != nil {
		t.Fatal(err)
	}
	if top == "" {
		t.Skip("no cgroup2 is mounted")
	}
	g := &Group{top}
	name := "brood-test-" + strings.NewReplacer("=", "-", ".", "-").Replace(string(newToken(t)))
	l, err := g.Leaf(name)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		t.Skip("the cgroup2 cannot be written:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Remove(); err != nil {
			t.Error(err)
		}
		l.Close()
	})
	if unix.Access(l.path+"/cgroup.kill", unix.F_OK) != nil {
		t.Skip("the kernel has no cgroup.kill")
	}
	return &Group{l.path}
}

func (l *Leaf) into(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: l.FD()}
}

// B16
func TestLeaf(t *testing.T) {
	g, tok := testGroup(t), newToken(t)
	l, err := g.Leaf("child-1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := g.Leaf("child-1"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same name again: %v", err)
	}
	c := tok.role(t, "job", []string{family}, l.into)
	c.says(t, "ready")
	until(t, "the family is complete", func() bool { return tok.named(t, "sleep") == sleepers })
	// A job may divide its group, too.
	if err := os.MkdirAll(l.path+"/a/b", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := g.Clean(isChild); err != nil {
		t.Error(err)
	}
	if n := tok.named(t, "sleep"); n != sleepers {
		t.Errorf("%d of the family after a clean-up, want %d", n, sleepers)
	}
	// Nobody reaps the child meanwhile.
	if err := l.Remove(); err != nil {
		t.Error(err)
	}
	tok.wantNone(t)
	if _, err := os.Stat(l.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the leaf is still there: %v", err)
	}
	if err := errors.Join(l.Kill(), l.Remove(), l.Close(), l.Close()); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestLeafName(t *testing.T) {
	g := &Group{t.TempDir()}
	for _, name := range []string{"", ".", "..", "a/b", "/a", ".a"} {
		if _, err := g.Leaf(name); err == nil {
			t.Errorf("%q was made", name)
		}
	}
}

// Who does not end in time is an error, not a wait for ever.
func TestLeafBusy(t *testing.T) {
	g := testGroup(t)
	l, err := g.Leaf("child-1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// A leaf that kills another one than it removes has a process that never ends.
	other, err := g.Leaf("child-2")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tok := newToken(t)
	cmd := tok.command("sleep", "1000")
	l.into(cmd)
	c := start(t, cmd)
	wrong := &Leaf{path: l.path, fd: other.fd}
	begin := time.Now()
	if err := wrong.Remove(); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), l.path) {
		t.Errorf("got %v, want EBUSY and the path", err)
	}
	if d := time.Since(begin); d < removal || d > 20*removal {
		t.Errorf("it took %v", d)
	}
	if err := errors.Join(l.Remove(), other.Remove()); err != nil {
		t.Error(err)
	}
	c.Process.Wait()
}

func TestClean(t *testing.T) {
	g := testGroup(t)
	for _, name := range []string{"child-1", "child-2", "other-1"} {
		l, err := g.Leaf(name)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	if err := g.Clean(isChild); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(g.Path + "/*-[0-9]")
	if err != nil || !slices.Equal(left, []string{g.Path + "/other-1"}) {
		t.Errorf("left are %q (%v)", left, err)
	}
	if err := (&Group{g.Path + "/none"}).Clean(isChild); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is no such group", err)
	}
}

func TestDelegated(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mark and to give away a group")
	}
	const nobody = 65534
	for _, c := range []struct {
		name    string
		prepare func(dir string) error
		uid     uint32
		want    bool
	}{
		{"root's, unmarked", func(string) error { return nil }, 0, false},
		{"user.delegate", func(d string) error { return unix.Setxattr(d, "user.delegate", []byte("1"), 0) }, 0, true},
		{"trusted.delegate", func(d string) error { return unix.Setxattr(d, "trusted.delegate", []byte("1"), 0) }, 0, true},
		{"marked as not", func(d string) error { return unix.Setxattr(d, "user.delegate", []byte("0"), 0) }, 0, false},
		{"marked otherwise", func(d string) error { return unix.Setxattr(d, "user.delegate", []byte("10"), 0) }, 0, false},
		{"another's", func(string) error { return nil }, nobody, false},
		{"only the directory", func(d string) error { return os.Chown(d, nobody, -1) }, nobody, false},
		{"given to us", func(d string) error {
			return errors.Join(os.Chown(d, nobody, -1), os.Chown(d+"/cgroup.procs", nobody, -1))
		}, nobody, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := testGroup(t)
			l, err := g.Leaf("service")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			defer l.Remove()
			if err := c.prepare(l.path); errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) {
				t.Skip("the kernel does not mark groups:", err)
			} else if err != nil {
				t.Fatal(err)
			}
			// The test binary lies where only root may go.
			self, err := os.Open("/proc/self/exe")
			if err != nil {
				t.Fatal(err)
			}
			defer self.Close()
			r := newToken(t).role(t, "group", []string{fmt.Sprint(c.want), l.path}, l.into, func(cmd *exec.Cmd) {
				cmd.Path, cmd.ExtraFiles = "/proc/self/fd/3", []*os.File{self}
				if c.uid != 0 {
					cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.uid, Gid: c.uid}
				}
			})
			r.succeeds(t)
		})
	}
}

func groupRole(args []string) error {
	g, err := Delegated()
	if err != nil {
		return err
	}
	if got := fmt.Sprint(g != nil); got != args[0] || g != nil && g.Path != args[1] {
		return fmt.Errorf("got %+v, want %s for %s", g, args[0], args[1])
	}
	if g != nil {
		// It is of use: a child can be born below.
		l, err := g.Leaf("child-1")
		if err != nil {
			return err
		}
		cmd := exec.Command("sleep", "1000")
		l.into(cmd)
		if err := cmd.Start(); err != nil {
			return err
		}
		if err := l.Remove(); err != nil {
			return err
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			return fmt.Errorf("the child ended with %v", err)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	fmt.Println("ok")
	return nil
}

func isChild(name string) bool { return strings.HasPrefix(name, "child-") }
