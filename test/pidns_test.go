package test

import (
	"errors"
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

// B14: a daemon that is process 1, as in a container, is the parent of its children like any other: they stay, they
// serve, and one that dies is replaced.
func TestDaemonIsProcessOne(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a pid namespace")
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		t.Skip("needs nsenter to look into the namespace: ", err)
	}
	s := openSite(t)
	run, sock := filepath.Join(s.dir, "run"), filepath.Join(s.dir, "sock")
	cmd := s.command("sh", "-c", `mount -t proc proc /proc && exec "$@"`, "sh",
		filepath.Join(bin, "jobs"), "-run-dir", run, "-listen", sock, "-error-log", filepath.Join(s.dir, "error.log"))
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
	d := &server{site: s, name: "jobs", run: run, log: filepath.Join(s.dir, "error.log"), pid: cmd.Process.Pid, exited: exited}
	s.daemons = append(s.daemons, d)

	answer := func() (body string) {
		t.Helper()
		if err := eventually(patience, func() (err error) {
			body, err = get(sock + ":/")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return body
	}
	answer()
	if n, err := countLines(d.log, `msg=starting name=jobs pid=1 `); err != nil || n != 1 {
		t.Fatalf("the log says %d times that process 1 is starting, want once: %v", n, err)
	}
	inside := func(args ...string) string {
		t.Helper()
		pid := "/proc/" + strconv.Itoa(d.pid) + "/ns/"
		out, err := s.command("nsenter", append([]string{"--pid=" + pid + "pid", "--mount=" + pid + "mnt"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	// For as long as children that believe in a dead parent would take to leave, nobody leaves.
	for begun := time.Now(); time.Since(begun) < time.Second; {
		answer()
	}
	if out := inside(filepath.Join(bin, "brood"), "status", "--json", run); !strings.Contains(out, `"born": 3,`) ||
		!strings.Contains(out, `"pid": 1,`) || !strings.Contains(out, `"running": true`) {
		t.Errorf("status inside: %s", out)
	}
	// A child that is killed is replaced.
	before := childPIDs(d.pid)
	if len(before) != 3 {
		t.Fatalf("children %v, want 3", before)
	}
	if err := kill(before[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := eventually(patience, func() error {
		now := childPIDs(d.pid)
		if len(now) != 3 || slices.Contains(now, before[0]) {
			return errors.New("not replaced yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	answer()
	// It stops as any daemon does. (Not by brood stop from inside: all processes of the namespace end with the first.)
	if err := kill(d.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-exited:
	case <-time.After(patience):
		t.Fatal("it does not stop")
	}
	if exists(sock) || exists(filepath.Join(run, "pid")) {
		t.Error("it has left its socket or its pidfile")
	}
}
