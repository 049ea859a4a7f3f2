package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A container is a daemon that is process 1 of a pid namespace.
type container struct {
	*server
	cmd  *exec.Cmd
	sock string
}

func contain(t *testing.T, program string) *container {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a pid namespace")
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		t.Skip("needs nsenter to look into the namespace: ", err)
	}
	s := openSite(t)
	run, sock := filepath.Join(s.dir, "run"), filepath.Join(s.dir, "sock")
	cmd := s.command("sh", "-c", `mount -t proc proc /proc && exec "$@"`, "sh",
		filepath.Join(bin, program), "-run-dir", run, "-listen", sock, "-error-log", filepath.Join(s.dir, "error.log"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	err := cmd.Start()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this root may not make a pid namespace: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	// From outside its pid is not 1, and what its files say of pids is not true here.
	d := &server{site: s, name: program, run: run, log: filepath.Join(s.dir, "error.log"), pid: cmd.Process.Pid, exited: exited}
	s.daemons = append(s.daemons, d)
	c := &container{server: d, cmd: cmd, sock: sock}
	c.answer(t)
	return c
}

// answer asks until somebody answers.
func (c *container) answer(t *testing.T) {
	t.Helper()
	if err := eventually(patience, func() error {
		_, err := get(c.sock + ":/")
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// inside runs a program in the container. What it leaves behind there becomes a child of process 1.
func (c *container) inside(t *testing.T, args ...string) string {
	t.Helper()
	pid := "/proc/" + strconv.Itoa(c.pid) + "/ns/"
	out, err := c.site.command("nsenter", append([]string{"--pid=" + pid + "pid", "--mount=" + pid + "mnt"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// replaced kills one of three children and waits until another one has its place.
func (c *container) replaced(t *testing.T) {
	t.Helper()
	before := c.children(t, 3)
	if err := kill(before[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if now := c.children(t, 3, before[0]); slices.Contains(now, before[0]) {
		t.Fatal("not replaced")
	}
}

// children waits until the daemon has n children, and none of them is one of those who should have gone.
func (c *container) children(t *testing.T, n int, gone ...int) (pids []int) {
	t.Helper()
	if err := eventually(patience, func() error {
		pids = childPIDs(c.pid)
		if len(pids) != n || slices.ContainsFunc(pids, func(pid int) bool { return slices.Contains(gone, pid) }) {
			return fmt.Errorf("children %v, want %d of them and none of %v", pids, n, gone)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return pids
}

// stop stops it as any daemon is. (Not by brood stop from inside: all processes of the namespace end with the first.)
func (c *container) stop(t *testing.T) {
	t.Helper()
	if err := kill(c.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.exited:
	case <-time.After(patience):
		t.Fatal("it does not stop")
	}
	if !c.cmd.ProcessState.Success() {
		t.Errorf("it has ended with %v", c.cmd.ProcessState)
	}
	if exists(c.sock) || exists(filepath.Join(c.run, "pid")) {
		t.Error("it has left its socket or its pidfile")
	}
}

// B14: a daemon that is process 1, as in a container, is the parent of its children like any other: they stay, they
// serve, and one that dies is replaced.
func TestDaemonIsProcessOne(t *testing.T) {
	t.Parallel()
	c := contain(t, "jobs")
	if n, err := countLines(c.log, `msg=starting name=jobs pid=1 `); err != nil || n != 1 {
		t.Fatalf("the log says %d times that process 1 is starting, want once: %v", n, err)
	}
	// For as long as children that believe in a dead parent would take to leave, nobody leaves.
	for begun := time.Now(); time.Since(begun) < time.Second; {
		c.answer(t)
	}
	if out := c.inside(t, filepath.Join(bin, "brood"), "status", "--json", c.run); !strings.Contains(out, `"born": 3,`) ||
		!strings.Contains(out, `"pid": 1,`) || !strings.Contains(out, `"running": true`) {
		t.Errorf("status inside: %s", out)
	}
	c.replaced(t)
	c.answer(t)
	c.stop(t)
}

// B11, B14: process 1 gets everybody whose parent has died. It reaps them, whatever their exit status, and takes them for
// nothing that concerns it; and it does not kill them.
func TestProcessOneGetsStrangers(t *testing.T) {
	t.Parallel()
	c := contain(t, "jobs")
	c.children(t, 3)
	// One for each status that a child of ours would have as well, and one that is killed.
	const script = `for n in 0 1 2 9 255; do
	(sh -c 'while [ ! -e "$0" ]; do sleep 0.02; done; exit "$1"' "$0" $n </dev/null >/dev/null 2>&1 &)
done
(sleep 1000 </dev/null >/dev/null 2>&1 &)`
	gate := filepath.Join(c.site.dir, "gate")
	c.inside(t, "sh", "-c", script, gate)
	const strangers = 6
	c.children(t, 3+strangers)
	sleeper := 0
	for _, p := range childrenOf(c.pid) {
		if p.command == "sleep 1000" {
			sleeper = p.pid
		}
	}
	if sleeper == 0 {
		t.Fatalf("the daemon's children: %v", childrenOf(c.pid))
	}
	own := slices.DeleteFunc(childrenOf(c.pid), func(p process) bool { return !strings.HasPrefix(p.name, "jobs [") })
	if len(own) != 3 {
		t.Fatalf("its own: %v", own)
	}
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.children(t, 3+1)
	// Nobody has noticed: the same three serve.
	for _, p := range own {
		if isGone(p.pid) {
			t.Errorf("%v is gone", p)
		}
	}
	if err := kill(own[0].pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.children(t, 3+1, own[0].pid)
	c.answer(t)
	if isGone(sleeper) {
		t.Error("a stranger has ended with a child")
	}
	if err := kill(sleeper, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.children(t, 3, sleeper)
	if out := c.inside(t, filepath.Join(bin, "brood"), "status", "--json", c.run); !strings.Contains(out, `"born": 4,`) ||
		!strings.Contains(out, `"died": 1,`) || !strings.Contains(out, `"state": "serving"`) {
		t.Errorf("status inside: %s", out)
	}
	if n, err := countLines(c.log, `stranger|level=ERROR|level=WARN.*(exit|left)`); err != nil || n > 0 {
		t.Errorf("%d lines of the log are about strangers, %v", n, err)
	}
	c.stop(t)
}
