package notify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// manager binds a service manager's socket: a path, or @ and a name.
func manager(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	return c
}

// receive returns the next message and the descriptors that come with it.
func receive(t *testing.T, c *net.UnixConn) (string, []int) {
	t.Helper()
	text, oob := make([]byte, 8192), make([]byte, 4096)
	n, rights, _, _, err := c.ReadMsgUnix(text, oob)
	must(t, err)
	var fds []int
	all, err := unix.ParseSocketControlMessage(oob[:rights])
	must(t, err)
	for _, m := range all {
		got, err := unix.ParseUnixRights(&m)
		must(t, err)
		fds = append(fds, got...)
	}
	for _, fd := range fds {
		t.Cleanup(func() { unix.Close(fd) })
	}
	return string(text[:n]), fds
}

// sockets are the two kinds that a manager may have.
func sockets(t *testing.T) []string {
	return []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@brood-notify-test-%d", os.Getpid())}
}

func TestSend(t *testing.T) {
	for _, socket := range sockets(t) {
		c := manager(t, socket)
		n, err := New(socket)
		must(t, err)
		must(t, n.Send(Ready))
		must(t, n.Send(Stopping, Status("two of 3 = 2"), "EMPTY="))
		must(t, n.Forget("a name"))
		for _, want := range []string{"READY=1", "STOPPING=1\nSTATUS=two of 3 = 2\nEMPTY=", "FDSTOREREMOVE=1\nFDNAME=a name"} {
			if got, fds := receive(t, c); got != want || len(fds) > 0 {
				t.Errorf("%s: %q with %d descriptors, want %q", socket, got, len(fds), want)
			}
		}
	}
}

// The manager gets the very same sockets, and holds them when the sender has closed his.
func TestSendFDs(t *testing.T) {
	for _, socket := range sockets(t) {
		c := manager(t, socket)
		n, err := New(socket)
		must(t, err)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		inode := func(fd int) uint64 {
			var st unix.Stat_t
			must(t, unix.Fstat(fd, &st))
			return st.Ino
		}
		want := []uint64{inode(pair[0]), inode(pair[1])}
		must(t, n.SendFDs("name-1 [x]/y", pair[0], pair[1]))
		unix.Close(pair[0])
		unix.Close(pair[1])
		text, fds := receive(t, c)
		if text != "FDSTORE=1\nFDNAME=name-1 [x]/y\nFDPOLL=0" {
			t.Errorf("%q", text)
		}
		var got []uint64
		for _, fd := range fds {
			got = append(got, inode(fd))
		}
		if !slices.Equal(got, want) {
			t.Errorf("sockets %d arrive, want %d", got, want)
		}
		_, err = unix.Write(fds[0], []byte("x"))
		must(t, err)
		if k, err := unix.Read(fds[1], make([]byte, 2)); k != 1 {
			t.Errorf("read %d, %v", k, err)
		}
	}
}

// A manager that does not read stops nobody; what it had no room for can be sent later.
func TestSendDoesNotWait(t *testing.T) {
	for _, socket := range sockets(t) {
		c := manager(t, socket)
		n, err := New(socket)
		must(t, err)
		sent := 0
		long := strings.Repeat("x", 1000)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for err = nil; err == nil && sent < 100_000; sent++ {
				err = n.Send("STATUS=" + long)
			}
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: still sending after %d messages", socket, sent)
		}
		if !Later(err) || !errors.Is(err, unix.EAGAIN) || !strings.Contains(err.Error(), socket) {
			t.Fatalf("%s: after %d messages: %v", socket, sent, err)
		}
		if err := n.SendFDs("name", int(os.Stdin.Fd())); !Later(err) {
			t.Errorf("%s: descriptors: %v", socket, err)
		}
		for range sent - 1 {
			receive(t, c)
		}
		must(t, n.Send(Ready))
		if got, _ := receive(t, c); got != Ready {
			t.Errorf("%s: then %q", socket, got)
		}
	}
}

func TestNobody(t *testing.T) {
	n, err := New("")
	if n != nil || err != nil {
		t.Fatalf("%v, %v", n, err)
	}
	for _, n := range []*Notifier{n, {}} {
		must(t, n.Send(Ready))
		must(t, n.SendFDs("name", 1<<30))
		must(t, n.Forget("name"))
	}
}

// What cannot be a socket is said at once; that nobody is there, when something is to be sent.
func TestErrors(t *testing.T) {
	for _, socket := range []string{"relative", "./a", "@", "/", "vsock:2:1234", "vsock-stream:2:1", " /run/x", "/" + strings.Repeat("a", 107)} {
		if n, err := New(socket); n != nil || err == nil || !strings.Contains(err.Error(), strconv.Quote(socket)) {
			t.Errorf("%q: %v", socket, err)
		}
	}
	n, err := New(filepath.Join(t.TempDir(), "none"))
	must(t, err)
	if err := n.Send(Ready); !errors.Is(err, unix.ENOENT) || Later(err) {
		t.Errorf("nobody there: %v", err)
	}
	c := manager(t, n.socket)
	for _, a := range []string{"", "READY", "=1", "STATUS=a\nSTOPPING=1", "A=\n", "A=\x00"} {
		if err := n.Send(Ready, a); err == nil {
			t.Errorf("%q is sent", a)
		}
	}
	for _, name := range []string{"", "a:b", "a\nFDSTOREREMOVE=1", "\x7f", "ä", strings.Repeat("n", 256)} {
		if n.SendFDs(name, 0) == nil || n.Forget(name) == nil {
			t.Errorf("%q is a name", name)
		}
	}
	must(t, n.SendFDs(strings.Repeat("n", 255), 0))
	if got, _ := receive(t, c); !strings.HasPrefix(got, "FDSTORE=1") {
		t.Errorf("got %q", got)
	}
	c.Close()
	if err := n.Send(Ready); !errors.Is(err, unix.ECONNREFUSED) || Later(err) {
		t.Errorf("nobody there any more: %v", err)
	}
}

// The time is that of the begin, by the clock that the manager goes by.
func TestReloading(t *testing.T) {
	clock := func() int64 {
		var ts unix.Timespec
		must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
		return ts.Nano() / 1000
	}
	before := clock()
	began := time.Now()
	time.Sleep(20 * time.Millisecond)
	after := clock()
	got := Reloading(began)
	for range 20_000 {
		before, began := clock(), time.Now()
		var usec int64
		if fmt.Sscanf(Reloading(began)[1], "MONOTONIC_USEC=%d", &usec); usec < before {
			t.Fatalf("%d is before %d", usec, before)
		}
	}
	if len(got) != 2 || got[0] != "RELOADING=1" {
		t.Fatalf("%q", got)
	}
	usec, err := strconv.ParseInt(strings.TrimPrefix(got[1], "MONOTONIC_USEC="), 10, 64)
	// It may be a little later, if this process has to wait, and never earlier.
	if err != nil || usec < before || usec > after {
		t.Errorf("%q: %d, want %d to %d (%v)", got, usec, before, after, err)
	}
}

func TestStatus(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "STATUS=",
		"serving: grün":                 "STATUS=serving: grün",
		"a\nSTOPPING=1\x00\x1b[2J\x7f":  "STATUS=a?STOPPING=1??[2J?",
		"\xff\u202e":                    "STATUS=\ufffd?",
		strings.Repeat("x", maxStatus):  "STATUS=" + strings.Repeat("x", maxStatus),
		strings.Repeat("ä", maxStatus):  "STATUS=" + strings.Repeat("ä", maxStatus/2) + " …",
		"x" + strings.Repeat("ä", 1000): "STATUS=x" + strings.Repeat("ä", maxStatus/2-1) + " …",
	} {
		if got := Status(text); got != want || !utf8.ValidString(got) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
