package pidfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleVar tells a re-executed test binary what to be. The tests use real processes, since locks, exec and kill -9 cannot be
// had otherwise.
const roleVar = "PIDFILE_TEST_ROLE"

var roles = map[string]func(path string) error{
	"hold":    hold,
	"gated":   gated,
	"parent":  holdWithChild,
	"upgrade": upgrade,
	"adopt":   adoptRole,
	"renamed": renamed,
	"once":    once,
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVar)]; ok {
		if err := role(os.Args[1]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold takes the path and keeps it until its standard input ends.
func hold(path string) error {
	f, err := Take(path)
	if held, ok := errors.AsType[*HeldError](err); ok {
		fmt.Println("held", held.PID)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println("won", os.Getpid())
	io.Copy(io.Discard, os.Stdin)
	return f.Release()
}

// gated is hold after descriptor 3 has come to its end, so that many processes start at the same moment.
func gated(path string) error {
	fmt.Println("ready")
	io.Copy(io.Discard, os.NewFile(3, "gate"))
	return hold(path)
}

// once takes and releases at once.
func once(path string) error {
	f, err := Take(path)
	if err != nil {
		return err
	}
	return f.Release()
}

// holdWithChild is hold with a child of another program that outlives it.
func holdWithChild(path string) error {
	f, err := Take(path)
	if err != nil {
		return err
	}
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Println("child", child.Process.Pid)
	io.Copy(io.Discard, os.Stdin)
	return f.Release()
}

// upgrade replaces its own program, keeping the lock.
func upgrade(path string) error {
	f, err := Take(path)
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(f.Fd()), unix.F_SETFD, 0); err != nil {
		return err
	}
	argv := []string{os.Args[0], path, strconv.Itoa(f.Fd())}
	return syscall.Exec("/proc/self/exe", argv, []string{roleVar + "=adopt", "GORACE=atexit_sleep_ms=0"})
}

func adoptRole(path string) error {
	fd, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	f, err := Adopt(path, fd)
	if err != nil {
		return err
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		return fmt.Errorf("the lock is not close-on-exec after Adopt (flags %d, %v)", flags, err)
	}
	fmt.Println("adopted", os.Getpid())
	io.Copy(io.Discard, os.Stdin)
	return f.Release()
}

// renamed gives itself the name in path and waits.
func renamed(name string) error {
	if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
		return err
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// A proc is a running role.
type proc struct {
	*exec.Cmd
	t     *testing.T
	stdin io.Closer
	out   *bufio.Reader
}

// roleCommand makes the command for a role. The race detector makes a process sleep for a second at its end, by default.
func roleCommand(role, path string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", path)
	cmd.Env = append(os.Environ(), roleVar+"="+role, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// start runs a role as a real process; setup may change the command first. The process is killed when the test ends.
func start(t *testing.T, role, path string, setup ...func(*exec.Cmd)) *proc {
	t.Helper()
	cmd := roleCommand(role, path)
	cmd.Stderr = os.Stderr
	for _, f := range setup {
		f(cmd)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &proc{Cmd: cmd, t: t, stdin: stdin, out: bufio.NewReader(stdout)}
	t.Cleanup(p.kill9)
	return p
}

// line returns the next line that the process prints.
func (p *proc) line() string {
	p.t.Helper()
	s, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("process %d: read output: %q, %v", p.Process.Pid, s, err)
	}
	return strings.TrimSpace(s)
}

// says fails the test unless the next line is want.
func (p *proc) says(format string, args ...any) {
	p.t.Helper()
	if got, want := p.line(), fmt.Sprintf(format, args...); got != want {
		p.t.Fatalf("process %d says %q, want %q", p.Process.Pid, got, want)
	}
}

// kill9 may be called again.
func (p *proc) kill9() {
	p.Process.Kill()
	p.Wait()
}

// finish ends the input of the process and waits for it.
func (p *proc) finish() {
	p.t.Helper()
	p.stdin.Close()
	if err := p.Wait(); err != nil {
		p.t.Fatalf("process %d: %v", p.Process.Pid, err)
	}
}

// until polls cond, for at most 10 s.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// mustTake takes path for the test.
func mustTake(t *testing.T, path string) *File {
	t.Helper()
	f, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Release() })
	return f
}

// wantSelf fails the test unless the file at path names this very process.
func wantSelf(t *testing.T, path string) {
	t.Helper()
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("the file names %+v, want %+v", got, want)
	}
}

// stranger starts a program that has nothing to do with us.
func stranger(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}
