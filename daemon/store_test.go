package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

// keep makes a socket as a service manager would have kept it, and returns its descriptor, which blocks.
func keep(t *testing.T, network, address string) int {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(network == "mptcp")
	c, err := lc.Listen(context.Background(), strings.TrimPrefix(network, "mp"), address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if u, ok := c.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	rc, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := inherit.Dup(rc)
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func portOf(t *testing.T, fd int) int {
	t.Helper()
	_, port, err := reachOf(fd)
	if err != nil || port == 0 {
		t.Fatal(port, err)
	}
	return int(port)
}

// A kept socket is used for the address that it is bound to, and for no other one.
func TestAdoptTCP(t *testing.T) {
	v6, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6")
	}
	v6.Close()
	for _, c := range []struct {
		network, kept string // what is kept, with port 0
		listen, want  string // what is asked for, with its port for P
		same          bool
	}{
		{"tcp", "127.0.0.1:0", "tcp", "127.0.0.1:P", true},
		{"tcp", "127.0.0.1:0", "tcp4", "127.0.0.1:P", true},
		{"tcp", "127.0.0.1:0", "tcp", "localhost:P", true},
		{"tcp", "127.0.0.1:0", "tcp", "127.0.0.1:0", false},
		{"tcp", "127.0.0.1:0", "tcp", "127.0.0.1:1", false},
		{"tcp", "127.0.0.1:0", "tcp", "127.0.0.2:P", false},
		{"tcp", "127.0.0.1:0", "tcp", "[::1]:P", false},
		{"tcp", "127.0.0.1:0", "tcp", ":P", false},
		{"tcp", "127.0.0.1:0", "unix", "P", false},
		{"tcp", "[::1]:0", "tcp", "[::1]:P", true},
		{"tcp", "[::1]:0", "tcp6", "[::1]:P", true},
		{"tcp", ":0", "tcp", ":P", true},
		{"tcp", ":0", "tcp", "[::]:P", true},
		{"tcp", ":0", "tcp4", ":P", false},
		{"tcp", ":0", "tcp6", ":P", false},
		{"tcp6", ":0", "tcp6", ":P", true},
		{"tcp6", ":0", "tcp", ":P", false},
		{"tcp4", ":0", "tcp4", ":P", true},
		{"tcp4", ":0", "tcp4", "0.0.0.0:P", true},
		{"tcp4", ":0", "tcp", ":P", false},
		{"tcp4", ":0", "tcp", "127.0.0.1:P", false},
		{"tcp", "127.0.0.1:0", "tcp", "127.0.0.1:no-such-service", false},
		{"tcp", "127.0.0.1:0", "tcp", "no address", false},
		{"mptcp", "127.0.0.1:0", "tcp", "127.0.0.1:P", false},
	} {
		fd := keep(t, c.network, c.kept)
		if proto, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); c.network == "mptcp" && proto == unix.IPPROTO_TCP {
			t.Log("no MPTCP here")
			unix.Close(fd)
			continue
		}
		want := strings.Replace(c.want, "P", fmt.Sprint(portOf(t, fd)), 1)
		s := service{given: []inherit.Given{{FD: fd, Name: storePrefix + "x"}}}
		l, err := s.adopt(c.listen, want)
		if err != nil || (l != nil) != c.same || len(s.given) != map[bool]int{true: 0, false: 1}[c.same] {
			t.Errorf("kept %s %s, asked for %s %s: %+v, %v", c.network, c.kept, c.listen, want, l, err)
		}
		if l != nil {
			flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			if flags&unix.O_NONBLOCK == 0 || int(l.port) != portOf(t, fd) || l.fd != fd || l.lent {
				t.Errorf("flags %#x, %+v", flags, l)
			}
		}
		unix.Close(fd)
	}
}

// B46: what a listener that was there before hands on to its connections is what this configuration says.
func TestAdoptSilence(t *testing.T) {
	for _, c := range []struct {
		timeout   time.Duration
		alive, ms int
	}{{10 * time.Second, 1, 10_000}, {-1, 0, 0}} {
		fd := keep(t, "tcp4", "127.0.0.1:0")
		p := &Parent{cfg: Config{ClientTimeout: c.timeout}, log: slog.New(slog.DiscardHandler)}
		p.service.given = []inherit.Given{{FD: fd, Name: storePrefix + "x"}}
		if _, err := p.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", portOf(t, fd))); err != nil {
			t.Fatal(err)
		}
		alive, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		ms, _ := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		if alive != c.alive || ms != c.ms || p.listeners[0].fd != fd {
			t.Errorf("%v: keep-alive %d, user timeout %d ms", c.timeout, alive, ms)
		}
		unix.Close(fd)
	}
}

// What does not listen, or is no stream, is not taken for a listener.
func TestAdoptStrangers(t *testing.T) {
	var given []inherit.Given
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		}
		if err != nil {
			t.Fatal(err)
		}
		s := service{given: []inherit.Given{{FD: fd}}}
		if l, err := s.adopt("tcp", fmt.Sprintf("127.0.0.1:%d", portOf(t, fd))); l != nil || err != nil {
			t.Errorf("kind %d: %+v, %v", kind, l, err)
		}
		given = append(given, s.given...)
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := service{given: append(given, inherit.Given{FD: null, Name: "null"})}
	if l, err := s.adopt("tcp", "127.0.0.1:80"); l != nil || err != nil {
		t.Errorf("%+v, %v", l, err)
	}
	if names := s.drop(slog.New(slog.DiscardHandler), func(inherit.Given) bool { return true }); len(names) != 3 || len(s.given) > 0 {
		t.Errorf("closed: %q", names)
	}
	if _, err := unix.FcntlInt(uintptr(null), unix.F_GETFD, 0); err == nil {
		t.Error("still open")
	}
}

// A kept Unix socket is used as long as its path is the very file that it has made.
func TestAdoptUnix(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		change func(path string)
		same   bool
	}{
		"nothing": {func(string) {}, true},
		"mode":    {func(path string) { os.Chmod(path, 0o600) }, true},
		"removed": {func(path string) { os.Remove(path) }, false},
		"moved":   {func(path string) { os.Rename(path, path+"-") }, false},
		"another": {func(path string) { os.Remove(path); unix.Close(keep(t, "unix", path)) }, false},
	} {
		path := filepath.Join(dir, name)
		fd := keep(t, "unix", path)
		given := inherit.Given{FD: fd, Name: (&listener{path: path}).storeName()}
		time.Sleep(10 * time.Millisecond) // of two files made in one tick of the clock only the number would tell
		c.change(path)
		p := &Parent{log: slog.New(slog.DiscardHandler), service: service{given: []inherit.Given{given}}}
		addr, err := p.Listen("unix", path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		l := p.listeners[0]
		if (l.fd == fd) != c.same || (l.stored != "") != c.same || addr.String() != path {
			t.Errorf("%s: %+v", name, l)
		}
		// Whatever it is now, clients reach it.
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			poll := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(poll, 5000); n != 1 {
				t.Errorf("%s: nobody comes: %v", name, err)
			}
			conn.Close()
		}
		if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != unixMode {
			t.Errorf("%s: %v, %v", name, st, err)
		}
		l.close()
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%s: the path is left: %v", name, err)
		}
		if !c.same {
			unix.Close(fd)
		}
	}
}

// What the service manager has bound itself, for a socket unit, stays its own: the path, its mode, and the store.
func TestAdoptLent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fd := keep(t, "unix", path)
	os.Chmod(path, 0o640)
	socket, heard := earpiece(t)
	p := &Parent{
		log: slog.New(slog.DiscardHandler), identity: &identity{uid: 1, gid: 1},
		service: newService(inherit.Service{Socket: socket, Given: []inherit.Given{{FD: fd, Name: "my.socket"}}}),
	}
	if addr, err := p.Listen("unix", path); err != nil || addr.String() != path || p.listeners[0].fd != fd {
		t.Fatalf("%v, %v", addr, err)
	}
	p.storeListeners()
	if l := p.listeners[0]; l.stored != "" || !l.lent {
		t.Errorf("%+v", l)
	}
	if texts := heard(); len(texts) > 0 {
		t.Errorf("the manager hears %q", texts)
	}
	p.listeners[0].close()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&0o777 != 0o640 || int(st.Gid) != os.Getegid() {
		t.Errorf("the path: %+v, %v", st, err)
	}
}

// A kept listener that no longer fits does not keep the new one from being bound.
func TestAdoptRival(t *testing.T) {
	fd := keep(t, "tcp4", ":0")
	address := fmt.Sprintf("127.0.0.1:%d", portOf(t, fd))
	other := keep(t, "tcp", "127.0.0.1:0")
	p := &Parent{cfg: Config{ClientTimeout: time.Minute}, log: slog.New(slog.DiscardHandler), service: service{given: []inherit.Given{
		{FD: fd, Name: storePrefix + "tcp-all"}, {FD: other, Name: storePrefix + "tcp-other"},
	}}}
	addr, err := p.Listen("tcp", address)
	if err != nil || addr.String() != address {
		t.Fatalf("%v, %v", addr, err)
	}
	if len(p.service.given) != 1 || p.service.given[0].FD != other {
		t.Errorf("left: %+v", p.service.given)
	}
	if _, err := p.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", portOf(t, other))); err != nil || p.listeners[1].fd != other {
		t.Errorf("the other: %v", err)
	}
	for _, l := range p.listeners {
		l.close()
	}
}

func TestStoreName(t *testing.T) {
	for _, c := range []struct {
		l    listener
		want string
	}{
		{listener{network: "tcp", addr: "127.0.0.1:80"}, "brood-tcp-127.0.0.1%3a80"},
		{listener{network: "tcp6", addr: "[fe80::1%2]:80"}, "brood-tcp6-[fe80%3a%3a1%252]%3a80"},
		{listener{network: "unix", path: "/none/a b\n:ä"}, "brood-unix-0-0-0-/none/a%20b%0a%3a%c3%a4"},
		{listener{network: "unix", path: "/none/" + strings.Repeat("\n", 101)}, ("brood-unix-0-0-0-/none/" + strings.Repeat("%0a", 101))[:255]},
	} {
		if got := c.l.storeName(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.l, got, c.want)
		}
	}
}
