package inherit

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVar tells a re-executed test binary what to be. Its name has nothing to do with the marks that are tested.
const roleVar = "INHERIT_TEST_ROLE"

var roles = map[string]func(arg string) error{
	"take":    takeRole,
	"check":   checkRole,
	"exec":    execRole,
	"service": serviceRole,
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVar)]; ok {
		os.Unsetenv(roleVar)
		os.Unsetenv("GORACE")
		if err := role(os.Args[1]); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Taken is what a process finds out about itself.
type Taken struct {
	Claim              Claim
	Err                string
	Next, Own, Program []string // environments: the next process's, this one's, and that of a program which it starts
}

func takeRole(string) error {
	c, _, next, err := Take()
	got := Taken{Claim: c, Next: next, Own: os.Environ()}
	if err != nil {
		got.Err = err.Error()
	}
	program := exec.Command("/proc/self/exe", "again")
	program.Env = append(os.Environ(), roleVar+"=take", "GORACE=atexit_sleep_ms=0")
	if len(os.Args) == 2 && os.Args[1] != "again" {
		out, err := program.Output()
		if err != nil {
			return err
		}
		var its Taken
		if err := json.Unmarshal(out, &its); err != nil {
			return err
		}
		got.Program = its.Next
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// Checked is what a process finds out about its descriptors, and what that has cost it.
type Checked struct {
	Err       string
	Allocated uint64 // bytes
}

// checkRole looks at its descriptors as a child with so many listeners would.
func checkRole(listeners string) error {
	n, err := strconv.Atoi(listeners)
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = Claim{Role: Child, Listeners: n}.Check()
	runtime.ReadMemStats(&after)
	got := Checked{Allocated: after.TotalAlloc - before.TotalAlloc}
	if err != nil {
		got.Err = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// execRole opens descriptors in the way of programs that do not think of those they start, and becomes cat.
func execRole(how string) error {
	for _, fd := range []int{100, 900} {
		if err := unix.Dup3(0, fd, 0); err != nil {
			return err
		}
	}
	if how == "close" {
		if err := CloseOnExec(); err != nil {
			return err
		}
		// Here they stay open.
		for _, fd := range []uintptr{0, 3, 100, 900} {
			if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil {
				return err
			}
		}
	}
	path, err := exec.LookPath("cat")
	if err != nil {
		return err
	}
	return syscall.Exec(path, []string{"cat"}, os.Environ())
}

// role makes the command for a role with this environment and no other.
func role(name, arg string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", arg)
	cmd.Stderr = os.Stderr
	// The race detector makes a process sleep for a second at its end, by default.
	cmd.Env = append(env, roleVar+"="+name, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// answer runs a role to its end and decodes what it prints.
func answer(t *testing.T, cmd *exec.Cmd, into any) {
	t.Helper()
	out, err := cmd.Output()
	must(t, err)
	must(t, json.Unmarshal(out, into))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
