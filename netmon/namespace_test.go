package netmon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVar makes the test binary another process: a host, which is a process that serves
// clients, or the tests themselves in a network namespace of their own.
const roleVar = "NETMON_TEST_ROLE"

// buckets is the size of the kernel's hash table in that namespace. With the usual one
// each look at /proc costs some ms, and it is shared with the rest of the machine.
const buckets = "1024"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "host":
		serveCommands(os.Stdin, os.Stdout)
		os.Exit(0)
	case "no netlink", "no pidfd_getfd":
		if err := denials[os.Getenv(roleVar)](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(noSeccomp)
		}
	case "nested": // started by a test, in its namespace
	case "inside":
		// Half as many TIME_WAIT rows as buckets are the default, and soon used up.
		err := os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("262144"), 0)
		if err == nil {
			err = loopbackUp()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "the tests' network namespace is of no use:", err)
			os.Exit(1)
		}
	default:
		cmd, err := inside()
		if err == nil {
			err = cmd.Wait()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				os.Exit(max(exit.ExitCode(), 1))
			} else if err == nil {
				os.Exit(0)
			}
		}
		fmt.Fprintln(os.Stderr, "no network namespace for the tests, so what needs one is skipped:", err)
	}
	os.Exit(m.Run())
}

// needNamespace skips a test that would be disturbed by the connections of others.
func needNamespace(t testing.TB) {
	t.Helper()
	if os.Getenv(roleVar) != "inside" {
		t.Skip("needs a network namespace of its own, which takes root")
	}
}

// inside starts this program again, with the same arguments, in a network namespace of
// its own with a small hash table. That takes two: the size is set in the namespace from
// which another one is made.
func inside() (*exec.Cmd, error) {
	runtime.LockOSThread() // for ever; the thread is in the first namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_child_ehash_entries", []byte(buckets), 0); err != nil {
		fmt.Fprintln(os.Stderr, "the tests are slow, as their namespace shares the machine's hash table:", err)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVar+"=inside")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return cmd, cmd.Start()
}

// loopbackUp switches on the one network device of a new namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}
