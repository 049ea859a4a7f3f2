package tree

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleVar tells a re-executed test binary what to be. What a subreaper is given, and what a reaper takes, concerns its
// whole process, so every such test has one of its own.
const roleVar = "TREE_TEST_ROLE"

var roles = map[string]func(args []string) error{
	"job":      job,
	"sweep":    sweepRole,
	"orphan":   orphanRole,
	"commands": commandsRole,
	"raw":      rawRole,
	"held":     heldRole,
	"quiet":    quietRole,
	"strays":   straysRole,
	"group":    groupRole,
}

func TestMain(m *testing.M) {
	patience = 20 * time.Second
	if role, ok := roles[os.Getenv(roleVar)]; ok {
		os.Unsetenv(roleVar)
		if err := role(os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// job is a child as a daemon has it: a subreaper that runs a shell script and takes no care of it.
func job(args []string) error {
	if err := Subreaper(); err != nil {
		return err
	}
	if err := exec.Command("sh", append([]string{"-c"}, args...)...).Start(); err != nil {
		return err
	}
	fmt.Println("ready")
	go io.Copy(io.Discard, os.Stdin)
	for { // it has no other use for its children
		if _, err := syscall.Wait4(-1, nil, 0, nil); err == syscall.ECHILD {
			time.Sleep(time.Millisecond)
		}
	}
}

// tokenVar is in the environment of every process that a test starts, with a value of the test's own.
const tokenVar = "TREE_TEST_TOKEN"

var tokens atomic.Int64

// A token is that entry: what carries it was started by the test, from whatever depth.
type token string

// newToken makes a token. Everybody who carries it is ended with the test.
func newToken(t testing.TB) token {
	tok := token(fmt.Sprintf("%s=%d.%d", tokenVar, os.Getpid(), tokens.Add(1)))
	t.Cleanup(func() {
		until(t, "the test's processes are gone", func() bool {
			alive := tok.alive(t)
			for _, pid := range alive {
				unix.Kill(pid, unix.SIGKILL)
			}
			return len(alive) == 0
		})
	})
	return tok
}

// alive returns those who carry the token and are no zombies. It asks /proc in its own way.
func (tok token) alive(t testing.TB) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ") // a zombie has none
		if bytes.Contains(append([]byte{0}, env...), []byte("\x00"+string(tok)+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// named returns how many of those are programs of that name.
func (tok token) named(t testing.TB, name string) int {
	n := 0
	for _, pid := range tok.alive(t) {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if string(comm) == name+"\n" {
			n++
		}
	}
	return n
}

// wantNone fails the test unless all who carry the token end. Who hops from process to process may slip through one
// look.
func (tok token) wantNone(t testing.TB) {
	t.Helper()
	none := 0
	until(t, "nothing is left", func() bool {
		if len(tok.alive(t)) > 0 {
			none = 0
			return false
		}
		none++
		return none == 5
	})
}

// A child is a started command.
type child struct {
	*exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

func (tok token) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	// The race detector makes a process sleep for a second at its end, by default.
	cmd.Env = append(os.Environ(), string(tok), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// role starts the test binary as something else; setup may change the command first.
func (tok token) role(t testing.TB, role string, args []string, setup ...func(*exec.Cmd)) *child {
	t.Helper()
	cmd := tok.command("/proc/self/exe", args...)
	cmd.Env = append(cmd.Env, roleVar+"="+role)
	for _, f := range setup {
		f(cmd)
	}
	return start(t, cmd)
}

func start(t testing.TB, cmd *exec.Cmd) *child {
	t.Helper()
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
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Process.Wait()
		stdin.Close()
		stdout.Close()
	})
	return &child{cmd, stdin, bufio.NewReader(stdout)}
}

// root is the child as Kill wants it. Package os signals through a pidfd.
func (c *child) root() Root {
	return Root{PID: c.Process.Pid, Signal: func(s unix.Signal) error { return c.Process.Signal(s) }}
}

// says fails the test unless the next line of the child is want.
func (c *child) says(t testing.TB, want string) {
	t.Helper()
	got, err := c.out.ReadString('\n')
	if err != nil || strings.TrimSpace(got) != want {
		rest, _ := io.ReadAll(c.out)
		t.Fatalf("process %d says %q (%v) %s, want %q", c.Process.Pid, got, err, rest, want)
	}
}

// succeeds fails the test unless the child prints ok and exits with 0.
func (c *child) succeeds(t testing.TB) {
	t.Helper()
	c.says(t, "ok")
	if s, err := c.Process.Wait(); err != nil || !s.Success() {
		t.Fatal(s, err)
	}
}

// until polls cond, for at most 20 s.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	if err := poll(cond); err != nil {
		t.Fatalf("not %s: %v", what, err)
	}
}

func poll(cond func() bool) error {
	const limit = 20 * time.Second
	for deadline := time.Now().Add(limit); !cond(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v", limit)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// halted reports whether a process is stopped or has ended. Anything else may be seen of a busy machine's sleeper.
func halted(s status) bool { return strings.ContainsRune("TtZXx", rune(s.state)) }
