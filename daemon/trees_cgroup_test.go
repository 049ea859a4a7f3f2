package daemon_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A group is a cgroup v2 that a test has made and that is given to a daemon.
type group struct {
	t   *testing.T
	dir string
	fd  *os.File
}

// delegated makes a group that looks like one that systemd has given away with Delegate=yes.
func delegated(t *testing.T) *group {
	t.Helper()
	top := ownCgroup(t)
	g := &group{t: t, dir: fmt.Sprintf("%s/brood-test-%d-%d", top, os.Getpid(), time.Now().UnixNano())}
	err := os.Mkdir(g.dir, 0o755)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		t.Skip("the cgroup2 cannot be written: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.WriteFile(g.dir+"/cgroup.kill", []byte("1"), 0) // only if the test has failed there is anybody
		var err error
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			for _, leaf := range g.leaves() {
				unix.Rmdir(leaf)
			}
			if err = unix.Rmdir(g.dir); err == nil {
				return
			}
		}
		t.Errorf("%s stays: %v", g.dir, err)
	})
	if unix.Access(g.dir+"/cgroup.kill", unix.F_OK) != nil {
		t.Skip("the kernel has no cgroup.kill")
	}
	if err := unix.Setxattr(g.dir, "user.delegate", []byte("1"), 0); err != nil {
		t.Skip("the cgroup2 takes no extended attributes: ", err)
	}
	if g.fd, err = os.Open(g.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.fd.Close() })
	return g
}

// ownCgroup returns the directory of this process's cgroup v2.
func ownCgroup(t *testing.T) string {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	mount := ""
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		if strings.Contains(line, " - cgroup2 ") && len(f) > 4 && f[3] == "/" {
			mount = f[4]
		}
	}
	if mount == "" {
		t.Skip("no cgroup2 is mounted")
	}
	return strings.TrimSuffix(mount+cgroupOf(t, os.Getpid()), "/")
}

// cgroupOf returns the path of a process's cgroup v2 in the hierarchy.
func cgroupOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if path, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("0::")); ok {
			return string(path)
		}
	}
	t.Skip("this process has no cgroup2")
	return ""
}

func (g *group) leaves() []string {
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		g.t.Error(err)
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() {
			found = append(found, g.dir+"/"+e.Name())
		}
	}
	return found
}

// launch starts a daemon in the group.
func (g *group) launch(scenario string, env ...string) *site {
	g.t.Helper()
	return launchAs(g.t, scenario, func(s *site) { g.take(s.cmd) }, env...)
}

// take makes a command begin its life in the group.
func (g *group) take(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.fd.Fd())}
}

// B16: where the daemon may divide its cgroup, each child has one of its own, which is killed with it.
func TestTreesEndInCgroup(t *testing.T) {
	needWild(t)
	for _, c := range treeEnds() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := delegated(t)
			env := append([]string{"POLICY=kill", "BROOD_KILL_GRACE=" + treeGrace.String(), "BROOD_PREFORK=2"}, c.env...)
			s := g.launch(trees, env...).served()
			for _, k := range s.serving() {
				if name, ok := strings.CutPrefix(cgroupOf(t, k.PID), cgroupOf(t, s.cmd.Process.Pid)+"/"); !ok ||
					!strings.HasPrefix(name, "brood-") || strings.Contains(name, "/") {
					t.Errorf("child %d is in %s", k.PID, cgroupOf(t, k.PID))
				}
			}
			c.run(t, s)
			if strings.HasPrefix(c.name, "parent killed") {
				// Its groups are for the next one to find.
				s = g.launch(trees).served()
			}
			s.cmd.Process.Signal(unix.SIGTERM) // if that is not what has ended it
			if !s.over(patience) {
				t.Fatal("the daemon does not stop")
			}
			if left := g.leaves(); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// B16: it is the group that is killed, at one stroke, and not what is found below the child.
func TestCgroupKill(t *testing.T) {
	t.Parallel()
	g := delegated(t)
	s := g.launch(trees, "POLICY=kill", "BROOD_KILL_GRACE=1ms", "BROOD_PREFORK=1").served()
	conn := s.dial("tcp4")
	pid, _ := askWho(t, conn, "toil 1000")
	leaf, err := os.Open(g.leaves()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer leaf.Close()
	// Somebody in the group who is no descendant of the child.
	cmd := exec.Command("sleep", "1000")
	(&group{fd: leaf}).take(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the stranger in the group: %v", err)
	}
	eventually(t, "the child's end", func() bool { return gone(pid) })
}
