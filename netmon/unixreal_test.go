package netmon

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"
)

// unixScene is a host with a listening Unix socket, a monitor, and clients in this
// process.
type unixScene struct {
	host
	t    testing.TB
	addr string
	u    *Unix
	m    *Monitor
	n    int // connections the host has
}

func newUnixScene(t testing.TB, h host, addr string) *unixScene {
	t.Helper()
	u := NewUnix()
	if err := u.Probe(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { u.Close() })
	h.do("listen " + addr)
	s := &unixScene{host: h, t: t, addr: addr, u: u, m: NewMonitor(DefaultFS, nil)}
	s.m.WatchUnix(u, addr)
	return s
}

// unixEverywhere runs a test for each kind of process and of name.
func unixEverywhere(t *testing.T, test func(t *testing.T, s *unixScene)) {
	for _, kind := range []string{"path", "abstract"} {
		addr := func(t *testing.T) string {
			if kind == "abstract" {
				return "@" + t.TempDir()
			}
			return filepath.Join(t.TempDir(), "s")
		}
		t.Run(kind+"/this process", func(t *testing.T) {
			h := &here{t: t}
			t.Cleanup(h.closeAll)
			test(t, newUnixScene(t, h, addr(t)))
		})
		t.Run(kind+"/child process", func(t *testing.T) { test(t, newUnixScene(t, newChild(t), addr(t))) })
	}
}

func (s *unixScene) dial() *net.UnixConn {
	s.t.Helper()
	c, err := net.Dial("unix", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}

// connect makes a connection, has it accepted, and returns its number too.
func (s *unixScene) connect() (*net.UnixConn, int) {
	s.t.Helper()
	c := s.dial()
	s.do("accept")
	s.n++
	return c, s.n - 1
}

func (s *unixScene) poll() []Lost {
	s.t.Helper()
	got, err := s.m.Poll(nil, nil, []int{s.pid()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.m.checkBooks(s.t)
	return got
}

// reports polls a few times. Unix sockets change at once, so what is to be reported is
// reported by the first of these.
func (s *unixScene) reports(ways ...How) []Lost {
	s.t.Helper()
	first := s.poll()
	var have []How
	for _, l := range first {
		have = append(have, l.How)
		if l.PID != s.pid() || l.Proto != "unix" || l.Path != s.addr || l.Inode == 0 || l.Local.IsValid() || l.Foreign.IsValid() {
			s.t.Errorf("%+v", l)
		}
	}
	slices.Sort(have)
	if !slices.Equal(have, ways) {
		s.t.Fatalf("reported %v, want %v", have, ways)
	}
	for range 3 {
		if got := s.poll(); len(got) > 0 {
			s.t.Fatalf("later reported: %+v", got)
		}
	}
	return first
}

func TestUnixClientCloses(t *testing.T) {
	unixEverywhere(t, func(t *testing.T, s *unixScene) {
		a, _ := s.connect()
		b, n := s.connect()
		s.reports()
		a.Close()
		s.reports(Closed)
		// With data that the client has not read, and with data that we have not.
		s.do(fmt.Sprint("write ", n))
		b.Write([]byte("x"))
		b.Close()
		s.reports(Closed)
		s.do("close 0")
		s.do("close 1")
		s.reports()
		if n := len(s.m.entries); n != 0 {
			t.Errorf("%d connections remembered for ever", n)
		}
	})
}

// A half-close is known as one, and the close that follows is told, too. // B39
func TestUnixClientHalfCloses(t *testing.T) {
	unixEverywhere(t, func(t *testing.T, s *unixScene) {
		a, _ := s.connect()
		b, n := s.connect()
		s.reports()
		a.CloseWrite()
		s.reports(HalfClosed)
		a.Close()
		s.reports(Closed)
		// Answered in the meantime: then there is nothing left to be told.
		b.CloseWrite()
		s.reports(HalfClosed)
		s.do(fmt.Sprint("close ", n))
		s.reports()
		b.Close()
		s.reports()
	})
}

// Our own end is never reported. // B40
func TestUnixJobClosesFirst(t *testing.T) {
	unixEverywhere(t, func(t *testing.T, s *unixScene) {
		a, n := s.connect()
		s.reports()
		s.do(fmt.Sprint("close ", n))
		s.reports()
		a.Close()
		s.reports()
		b, n := s.connect()
		s.do(fmt.Sprint("shut ", n))
		s.reports() // never seen without
		b.Close()
		s.reports()
	})
}

// What happens between two looks is found in the second, as long as our process holds
// the socket: a row does not go away before that.
func TestUnixBetweenLooks(t *testing.T) {
	unixEverywhere(t, func(t *testing.T, s *unixScene) {
		waiting := s.dial()
		s.reports()
		waiting.Close()
		s.reports() // nobody holds it
		s.do("accept")
		s.n++
		s.reports(Closed)
		c, _ := s.connect()
		c.Close()
		h, _ := s.connect()
		h.CloseWrite()
		s.reports(Closed, HalfClosed)
	})
}

// Only connections that came to the names given count: not what the job dialed, nor the
// clients of other listeners. // B42
func TestUnixElsewhere(t *testing.T) {
	unixEverywhere(t, func(t *testing.T, s *unixScene) {
		db := filepath.Join(t.TempDir(), "db")
		ln, err := net.Listen("unix", db)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		s.do("dial " + db)
		s.n++
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		client, _ := s.connect()
		s.reports()
		server.Close()
		s.reports()
		// Watched no more, and watched again: known connections are new then.
		s.m.WatchUnix(s.u, db)
		client.Close()
		s.reports()
		s.m.WatchUnix(s.u, db, s.addr)
		s.reports(Closed)
		s.m.WatchUnix(nil)
		s.reports()
		if n := len(s.m.entries); n != 0 {
			t.Errorf("%d connections remembered for ever", n)
		}
	})
}

func TestUnixManyClients(t *testing.T) { // B43
	unixEverywhere(t, func(t *testing.T, s *unixScene) {
		var clients []*net.UnixConn
		for range 200 {
			c, _ := s.connect()
			clients = append(clients, c)
		}
		s.reports()
		var want []How
		for i, c := range clients {
			if i%2 == 0 {
				c.Close()
				want = append(want, Closed)
			}
		}
		inodes := map[uint64]bool{}
		for _, l := range s.reports(want...) {
			inodes[l.Inode] = true
		}
		if len(inodes) != len(want) {
			t.Errorf("%d different ones of %d", len(inodes), len(want))
		}
	})
}

// Both kinds of sockets in one Monitor, one of them out of order.
func TestUnixAndTCP(t *testing.T) {
	h := newChild(t)
	s := newUnixScene(t, h, filepath.Join(t.TempDir(), "s"))
	u, _ := s.connect()
	s.reports()
	tcp := newScene(t, h, "127.0.0.1:0", "127.0.0.1", newDiag(t))
	tcp.m = s.m
	c := tcp.connect()
	tcp.nothing()
	s.m.WatchUnix(brokenUnix{}, s.addr)
	u.Close()
	c.Close()
	tcp.becomes(c, CloseWait)
	got, err := s.m.Poll(nil, tcp.ports, []int{s.pid()})
	if !errors.Is(err, errBroken) || len(got) != 1 || got[0].Proto != "tcp" {
		t.Fatal(got, err)
	}
	s.m.WatchUnix(s.u, s.addr)
	got, err = s.m.Poll(nil, tcp.ports, []int{s.pid()})
	if err != nil || len(got) != 1 || got[0].Proto != "unix" || got[0].How != Closed {
		t.Fatal(got, err)
	}
	tcp.nothing()
}

var errBroken = errors.New("broken")

type brokenUnix struct{}

func (brokenUnix) Snapshot(dst []UnixConn, _ []string) ([]UnixConn, error) { return dst, errBroken }

func TestUnixAllocatesNothing(t *testing.T) { // B44
	s := newUnixScene(t, newChild(t), filepath.Join(t.TempDir(), "s"))
	for range 20 {
		s.connect()
	}
	pids := []int{s.pid()}
	var out []Lost
	poll := func() {
		var err error
		if out, err = s.m.Poll(out[:0], nil, pids); err != nil || len(out) > 0 {
			t.Fatal(out, err)
		}
	}
	poll()
	if n := testing.AllocsPerRun(50, poll); n != 0 {
		t.Errorf("%v allocations a poll", n)
	}
}
