package compare

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/netmon"
)

const (
	// insideVar is set in the process that runs the tests in a namespace of its own.
	insideVar = "NETMON_COMPARE_INSIDE"
	// holdVar is set in a process that holds connections: their number, and whether the
	// clients end them.
	holdVar = "NETMON_COMPARE_HOLD"
	// buckets is the size of the hash table in new namespaces.
	buckets = "262144"
)

// TestMain runs the tests in a process that has a network namespace of its own, with its
// own hash table. The size of that is set in the namespace from which it is made.
func TestMain(m *testing.M) {
	if order := os.Getenv(holdVar); order != "" {
		if err := hold(order); err != nil {
			fmt.Fprintln(os.Stderr, "cannot hold connections:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(insideVar) == "" {
		runtime.LockOSThread()
		err := newNamespace()
		if err == nil {
			cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
			cmd.Env = append(os.Environ(), insideVar+"=yes")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
			err = cmd.Run()
		}
		var exit *exec.ExitError
		switch {
		case err == nil:
			os.Exit(0)
		case errors.As(err, &exit):
			os.Exit(max(exit.ExitCode(), 1))
		}
		fmt.Fprintln(os.Stderr, "nothing is measured, as that takes a network namespace of its own:", err)
		os.Exit(0)
	}
	if err := ready(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot make the namespace ready:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// newNamespace moves this thread to a new network namespace.
func newNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	return ready()
}

// ready prepares the network namespace of this thread.
func ready() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_child_ehash_entries", []byte(buckets), 0); err != nil {
		return err
	}
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

// A world is connections, held by processes of their own, as one may not have as many
// descriptors.
type world struct {
	port uint16 // of the listener
	pid  int    // of the holder
}

// perHolder is how many connections one process holds, with two descriptors for each.
const perHolder = 5_000

// newWorlds makes n connections in the network namespace of this thread. With closing set
// the clients end them: they shut down their sending half, which our end cannot tell from
// a close, so that both ends stay what they are.
func newWorlds(b *testing.B, n int, closing bool) []world {
	b.Helper()
	var all []world
	for ; n > 0; n -= perHolder {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %t", holdVar, min(n, perHolder), closing))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			in.Close() // which ends it
			cmd.Wait()
		})
		w := world{pid: cmd.Process.Pid}
		if _, err := fmt.Fscan(out, &w.port); err != nil {
			b.Fatal("the holder of connections says nothing: ", err)
		}
		all = append(all, w)
	}
	return all
}

// hold is the process that holds connections, until its input ends.
func hold(order string) error {
	var n int
	var closing bool
	if _, err := fmt.Sscan(order, &n, &closing); err != nil {
		return err
	}
	port, err := connect(n, closing)
	if err != nil {
		return err
	}
	fmt.Println(port)
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// connect makes n connections from this process to itself, and leaves them open.
func connect(n int, closing bool) (port int, err error) {
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	if err := unix.Listen(ln, 16); err != nil {
		return 0, err
	}
	sa, err := unix.Getsockname(ln)
	if err != nil {
		return 0, err
	}
	for range n {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		if err := unix.Connect(c, sa); err != nil {
			return 0, err
		}
		if _, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC); err != nil {
			return 0, err
		}
		if closing {
			if err := unix.Shutdown(c, unix.SHUT_WR); err != nil {
				return 0, err
			}
		}
	}
	return sa.(*unix.SockaddrInet4).Port, nil
}

// elsewhere makes n connections in a namespace of its own, and returns a Diag that asks
// there, and the servers' ends of some.
func elsewhere(b *testing.B, n int) (*netmon.Diag, []netmon.Conn) {
	b.Helper()
	d := netmon.NewDiag()
	b.Cleanup(func() { d.Close() })
	var rows []netmon.Conn
	done := make(chan error, 1)
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with this function
		if err := newNamespace(); err != nil {
			done <- err
			return
		}
		w := newWorlds(b, n, false)
		var err error
		rows, err = d.Snapshot(nil, netmon.Filter{Ports: []uint16{w[0].port}, States: netmon.Established.Mask()})
		if err == nil && len(rows) != min(n, perHolder) {
			err = fmt.Errorf("%d rows of %d", len(rows), min(n, perHolder))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if len(rows) == 0 {
		b.FailNow() // the goroutine has told why
	}
	return d, rows
}
