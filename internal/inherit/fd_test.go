package inherit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// descriptors makes one of each kind that a child gets.
func descriptors(t *testing.T) map[string]*os.File {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	must(t, err)
	board, err := os.Create(filepath.Join(t.TempDir(), "scoreboard"))
	must(t, err)
	r, w, err := os.Pipe()
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	listener, err := l.(*net.TCPListener).File()
	must(t, err)
	l.Close()
	dir, err := os.Open("/")
	must(t, err)
	null, err := os.Open(os.DevNull)
	must(t, err)
	all := map[string]*os.File{
		"socket": os.NewFile(uintptr(pair[0]), ""), "peer": os.NewFile(uintptr(pair[1]), ""), "regular": board,
		"eventfd": os.NewFile(uintptr(event), ""), "pipe": w, "reader": r, "listener": listener, "directory": dir, "null": null,
	}
	t.Cleanup(func() {
		for _, f := range all {
			f.Close()
		}
	})
	return all
}

func TestCheck(t *testing.T) {
	all := descriptors(t)
	for _, c := range []struct {
		fds       string // from 3 on
		listeners int
		wrong     string
	}{
		{"socket regular eventfd pipe regular", 0, ""},
		{"socket regular eventfd pipe regular listener", 1, ""},
		{"socket regular eventfd pipe regular listener listener listener", 3, ""},
		{"socket regular eventfd pipe regular listener listener regular", 2, ""}, // what comes after is no business of ours
		{"", 0, "descriptor 3 is not a control socket"},
		{"pipe regular eventfd pipe", 0, "descriptor 3 is not a control socket"},
		{"regular regular eventfd pipe", 0, "descriptor 3 is not a control socket"},
		{"closed regular eventfd pipe", 0, "descriptor 3 is not a control socket"},
		{"socket socket eventfd pipe", 0, "descriptor 4 is not a scoreboard"},
		{"socket directory eventfd pipe", 0, "descriptor 4 is not a scoreboard"},
		{"socket null eventfd pipe", 0, "descriptor 4 is not a scoreboard"},
		{"socket regular regular pipe", 0, "descriptor 5 is not a bell"},
		{"socket regular pipe pipe", 0, "descriptor 5 is not a bell"},
		{"socket regular socket pipe", 0, "descriptor 5 is not a bell"},
		{"socket regular eventfd regular", 0, "descriptor 6 is not an access log"},
		{"socket regular eventfd socket", 0, "descriptor 6 is not an access log"},
		{"socket regular eventfd closed", 0, "descriptor 6 is not an access log"},
		{"socket regular eventfd pipe pipe", 0, "descriptor 7 is not a memory file"},
		{"socket regular eventfd pipe regular regular", 1, "descriptor 8 is not a listener"},
		{"socket regular eventfd pipe regular listener pipe", 2, "descriptor 9 is not a listener"},
		{"socket regular eventfd pipe regular listener listener", 3, "descriptor 10 is not a listener"},
		{"socket regular eventfd pipe regular listener", 1<<31 - 1, "descriptor 9 is not a listener"},
	} {
		cmd := role("check", fmt.Sprint(c.listeners))
		for _, name := range strings.Fields(c.fds) {
			f := all[name]
			if f == nil && name != "closed" {
				t.Fatalf("no descriptor %q", name)
			}
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
		var got Checked
		answer(t, cmd, &got)
		want := ""
		if c.wrong != "" {
			want = c.wrong + ": environment variable BROOD is not of this program's making; unset it"
		}
		if got.Err != want {
			t.Errorf("%s, %d listeners: %q, want %q", c.fds, c.listeners, got.Err, want)
		}
		// A stray variable may claim any number of listeners. That must cost nothing before it is found to be wrong.
		if got.Allocated > 1<<20 {
			t.Errorf("%s, %d listeners: %d bytes allocated", c.fds, c.listeners, got.Allocated)
		}
	}
}

// openIn lists the descriptors of a process.
func openIn(t *testing.T, pid int) []string {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	var fds []string
	for _, e := range entries {
		fds = append(fds, e.Name())
	}
	return fds
}

// A program that is started after CloseOnExec gets its standard descriptors and nothing that the process has inherited or
// opened without thought. Without it everything gets through, so the test looks where it must.
func TestCloseOnExec(t *testing.T) {
	all := descriptors(t)
	for _, how := range []string{"close", "leak"} {
		cmd := role("exec", how, "PATH="+os.Getenv("PATH"))
		cmd.ExtraFiles = []*os.File{all["socket"], all["listener"], all["null"]}
		in, err := cmd.StdinPipe()
		must(t, err)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		// cat has begun when it answers.
		io.WriteString(in, "hello\n")
		if s, err := bufio.NewReader(out).ReadString('\n'); s != "hello\n" {
			t.Fatalf("%q, %v", s, err)
		}
		got := openIn(t, cmd.Process.Pid)
		if how == "close" && !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("descriptors %v are open, want 0, 1 and 2", got)
		}
		for _, fd := range []string{"3", "4", "5", "100", "900"} {
			if how == "leak" && !slices.Contains(got, fd) {
				t.Errorf("descriptors %v are open without CloseOnExec, want %s among them", got, fd)
			}
		}
	}
}

func nonblocking(t *testing.T, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	must(t, err)
	return flags&unix.O_NONBLOCK != 0
}

// A duplicate is the same listener, and nobody who shares it is put into blocking mode.
func TestDup(t *testing.T) { // B30
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "socket")
		}
		l, err := net.Listen(network, address)
		must(t, err)
		defer l.Close()
		rc, err := l.(syscall.Conn).SyscallConn()
		must(t, err)
		fd, err := Dup(rc)
		must(t, err)
		defer unix.Close(fd)
		var own int
		must(t, rc.Control(func(fd uintptr) { own = int(fd) }))
		if fd < 3 || fd == own {
			t.Errorf("%s: %d is a duplicate of %d", network, fd, own)
		}
		if !nonblocking(t, own) || !nonblocking(t, fd) {
			t.Errorf("%s: the listener blocks", network)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: not close-on-exec (%v)", network, err)
		}
		// It goes on listening when the first one is closed, and so shares its queue.
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		address = l.Addr().String()
		l.Close()
		c, err := net.Dial(network, address)
		must(t, err)
		defer c.Close()
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 10_000); n != 1 {
			t.Fatalf("%s: no connection on the duplicate (%v)", network, err)
		}
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		must(t, err)
		// A duplicate that stayed behind would keep the other end waiting.
		unix.Close(conn)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: after the close the other end gets %v, want the end", network, err)
		}
	}
}

func TestDupErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	rc, err := l.(*net.TCPListener).SyscallConn()
	must(t, err)
	l.Close()
	if fd, err := Dup(rc); fd >= 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("of a listener that is closed: %d, %v", fd, err)
	}
	if fd, err := Dup(bad(1 << 30)); fd >= 0 || !errors.Is(err, unix.EBADF) {
		t.Errorf("of a bad descriptor: %d, %v", fd, err)
	}
}

// bad is a descriptor that is not open.
type bad uintptr

func (b bad) Control(f func(fd uintptr)) error {
	f(uintptr(b))
	return nil
}
