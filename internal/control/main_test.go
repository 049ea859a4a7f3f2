package control

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleVar tells a re-executed test binary what to be: another user's process cannot be had otherwise.
const roleVar = "CONTROL_TEST_ROLE"

// nobody is the other user.
const nobody = 65534

var roles = map[string]func(dir string) error{
	"dial":   dialRole,
	"serve":  serveRole,
	"rundir": func(name string) error { fmt.Println(RunDir(name)); return nil },
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVar)]; ok {
		if err := role(os.Args[1]); err != nil {
			fmt.Println("error:", err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// dialRole asks the daemon in dir to stop and prints who it is and what it says.
func dialRole(dir string) error {
	c, err := Dial(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	reply, err := c.Call(ctx, Request{Verb: VerbStop}, nil)
	if err != nil {
		return err
	}
	fmt.Printf("peer %d %d: %v %q %q\n", c.Peer.PID, c.Peer.UID, reply.OK, reply.Text, reply.Error)
	return nil
}

// serveRole takes one request in dir and prints from whom it came.
func serveRole(dir string) error {
	l, err := Listen(dir)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	c, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	defer c.Close()
	r, p, err := Receive(c)
	fmt.Println(r.Verb, p.UID, err)
	return Answer(c, Reply{OK: err == nil})
}

// role makes the command for a role; uid -1 is this process's own user.
func role(name, arg string, uid int, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", arg)
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	cmd.Env = append(env, roleVar+"="+name, "GORACE=atexit_sleep_ms=0")
	if uid >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	return cmd
}

// output runs a role to its end and returns what it prints.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openDir makes a run directory that other users reach by path, unlike one of t.TempDir.
func openDir(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("", "control")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	must(t, os.Chmod(base, 0o755))
	dir := base + "/run"
	must(t, MakeDir(dir))
	return dir
}
