package daemon

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketPair returns a socket and the client at its other end.
func socketPair(t *testing.T) (*socket, *net.TCPConn) {
	t.Helper()
	ln, err := bind("tcp", "127.0.0.1:0", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.close()
	c, err := net.Dial("tcp", ln.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := eventuallyAccepts(ln.fd); err != nil {
		t.Fatal(err)
	}
	fd, peer, err := acceptNow(ln.fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := inherited(fd, time.Minute); err != nil {
		t.Fatal(err)
	}
	s, err := newSocket(fd, &net.TCPAddr{IP: net.IPv4(0, 0, 0, 0)}, peer, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, c.(*net.TCPConn)
}

func eventuallyAccepts(fd int) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	return err
}

// What a socket says of its errors and addresses is what package net says.
func TestSocketIsLikeNets(t *testing.T) {
	s, c := socketPair(t)
	if s.LocalAddr().String() != c.RemoteAddr().String() || s.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("%v and %v, the client has %v and %v", s.LocalAddr(), s.RemoteAddr(), c.RemoteAddr(), c.LocalAddr())
	}
	s.SetDeadline(time.Now().Add(-time.Second))
	for op, f := range map[string]func([]byte) (int, error){"read": s.Read, "write": s.Write} {
		_, err := f(make([]byte, 10))
		var ne net.Error
		var oe *net.OpError
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() || !errors.As(err, &oe) || oe.Op != op {
			t.Errorf("%s after the deadline: %#v", op, err)
		}
	}
	for range 2 { // before anybody has waited, and after
		s.SetDeadline(time.Time{})
		if n, err := s.Read(nil); n != 0 || err != nil {
			t.Errorf("read nothing: %d, %v", n, err)
		}
		s.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read at the deadline: %v", err)
		}
	}
	s.SetDeadline(time.Time{})
	if err := s.CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client reads %v after CloseWrite", err)
	}
	c.Write([]byte("last"))
	c.Close()
	if b, err := io.ReadAll(s); err != nil || string(b) != "last" {
		t.Errorf("read %q, %v", b, err)
	}
	s.Close()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if err := s.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	s, c = socketPair(t)
	c.SetLinger(0)
	c.Close()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) || !strings.Contains(err.Error(), "read tcp 127.0.0.1:") {
		t.Errorf("read after a reset: %v", err)
	}
}

// Files are copied inside the kernel; the connection ends where the caller ends it, with the options that it had.
func TestSocketReadFrom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	text := strings.Repeat("0123456789", 100_000)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, c := socketPair(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make(chan string)
	go func() {
		b, _ := io.ReadAll(c)
		got <- string(b)
	}()
	for _, r := range []io.Reader{io.LimitReader(f, 400_000), f, strings.NewReader("end")} {
		if _, err := s.ReadFrom(r); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[int]int{unix.TCP_KEEPCNT: probes, unix.TCP_USER_TIMEOUT: 60_000} {
		rc, _ := s.SyscallConn()
		rc.Control(func(fd uintptr) {
			if n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, name); err != nil || n != want {
				t.Errorf("option %d is %d, %v; want %d", name, n, err, want)
			}
		})
	}
	s.Close()
	if b := <-got; b != text+"end" {
		t.Errorf("%d bytes have arrived, want %d", len(b), len(text)+3)
	}
	// A client who takes nothing holds up the copy until the deadline, also one that is set meanwhile, or until Close.
	for name, end := range map[string]func(*socket){
		"deadline": func(s *socket) { s.SetWriteDeadline(time.Now()) }, "close": func(s *socket) { s.Close() },
	} {
		s, _ := socketPair(t)
		big, err := os.Open("/dev/zero")
		if err != nil {
			t.Fatal(err)
		}
		defer big.Close()
		done := make(chan error, 1)
		go func() {
			_, err := s.ReadFrom(io.LimitReader(big, 1<<40))
			done <- err
		}()
		time.Sleep(20 * time.Millisecond) // either moment is tried
		end(s)
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: the copy has come to an end", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the copy goes on", name)
		}
	}
}
