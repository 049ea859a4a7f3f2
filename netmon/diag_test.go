package netmon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// plain takes away what only a Diag knows, sorts, and drops rows that came twice.
func plain(rows []Conn) []Conn {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Cookie, rows[i].Device = 0, 0
	}
	slices.SortFunc(rows, func(a, b Conn) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return slices.Compact(rows)
}

// sameRows checks that both sources give the same rows. The kernel still works on what
// was done a moment ago, so it may take a few looks.
func sameRows(t testing.TB, d *Diag, f Filter) []Conn {
	t.Helper()
	table := NewTable(DefaultFS)
	var a, b []Conn
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var err error
		if a, err = table.Snapshot(nil, f); err != nil {
			t.Fatal(err)
		}
		if b, err = d.Snapshot(nil, f); err != nil {
			t.Fatal(err)
		}
		if slices.Equal(plain(a), plain(b)) {
			return b
		}
		if time.Now().After(end) {
			t.Fatalf("%+v:\nprocfs    %v\ninet_diag %v", f, plain(a), plain(b))
		}
	}
}

// Whatever is done to connections, whatever is asked for: both sources give the same.
func TestSourcesAgree(t *testing.T) {
	needNamespace(t)
	d := newDiag(t)
	var hosts []*here
	var ports []uint16
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", ":0", "127.0.0.1:0"} {
		if strings.HasPrefix(addr, "[") && !haveIPv6() {
			continue
		}
		h := &here{t: t}
		t.Cleanup(h.closeAll)
		ports = append(ports, netip.MustParseAddrPort(h.do("listen "+addr)).Port())
		hosts = append(hosts, h)
	}
	rapid.Check(t, func(rt *rapid.T) {
		h := rapid.SampledFrom(hosts).Draw(rt, "listener")
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			act(rt, h)
		}
		f := Filter{
			Ports:  rapid.SliceOfN(rapid.SampledFrom(append(ports, 1)), 0, 5).Draw(rt, "ports"),
			States: States(rapid.Uint16Range(0, 1<<12-1).Draw(rt, "states")) &^ 1,
		}
		sameRows(t, d, f)
	})
	if rows := sameRows(t, d, Filter{}); len(rows) < 10 {
		t.Errorf("only %d rows were compared in the end", len(rows))
	}
}

// act does something to a connection of h, or makes one.
func act(rt *rapid.T, h *here) {
	if len(h.conns) > 0 {
		c := rapid.SampledFrom(h.conns).Draw(rt, "connection").(*net.TCPConn)
		switch rapid.SampledFrom([]string{"connect", "connect", "shut", "close", "reset", "write"}).Draw(rt, "what") {
		case "shut":
			c.CloseWrite()
			return
		case "close":
			c.Close()
			return
		case "reset":
			c.SetLinger(0)
			c.Close()
			return
		case "write":
			c.Write([]byte("x")) // unread data makes a close a reset
			return
		}
	}
	addr := netip.MustParseAddrPort(h.listener.Addr().String())
	host := addr.Addr().String()
	if addr.Addr().IsUnspecified() {
		host = "127.0.0.1"
	}
	c, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(addr.Port())))
	if err != nil {
		h.t.Fatal(err)
	}
	h.conns = append(h.conns, c)
	if rapid.Bool().Draw(rt, "accept") {
		h.do("accept")
	}
}

// The kernel filters by some ports; by very many, the Diag itself does.
func TestDiagPorts(t *testing.T) {
	needNamespace(t)
	d := newDiag(t)
	h := &here{t: t}
	t.Cleanup(h.closeAll)
	addr := h.do("listen 127.0.0.1:0")
	h.do("dial " + addr)
	h.do("accept")
	port := netip.MustParseAddrPort(addr).Port()
	for _, n := range []int{0, 1, 2, 3, maxPorts - 1, maxPorts, maxPorts + 1, 4000} {
		for _, place := range []int{0, n / 2, n} {
			others := make([]uint16, n)
			for i := range others {
				others[i] = uint16(1 + i%int(port-1)) // below it; nobody uses those here
			}
			rows, err := d.Snapshot(nil, Filter{Ports: slices.Insert(others, place, port), States: Established.Mask()})
			if err != nil || len(rows) != 1 || rows[0].Local.String() != addr {
				t.Fatalf("%d ports, the one at %d: %v, %v", n+1, place, rows, err)
			}
			if n > 0 {
				if rows, err := d.Snapshot(nil, Filter{Ports: others, States: watched}); err != nil || len(rows) != 0 {
					t.Fatalf("%d other ports: %v, %v", n, rows, err)
				}
			}
		}
	}
}

// An MPTCP connection has a row, and neither source can see from it that the client has
// left; nor may anybody be reported who has not. Where its listener is not MPTCP, a
// client that asks for it is seen as any other.
func TestMultipath(t *testing.T) {
	if _, err := os.Stat("/proc/sys/net/mptcp/enabled"); err != nil {
		t.Skip("no MPTCP")
	}
	inChild(t, func(t *testing.T, s *scene) {
		var dialer net.Dialer
		dialer.SetMultipathTCP(true)
		c, err := dialer.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s.do("accept")
		s.nothing()
		c.Close()
		s.reported(Closed, c)
	})
	for _, src := range sources {
		t.Run("listener/"+src.name, func(t *testing.T) {
			var lc net.ListenConfig
			lc.SetMultipathTCP(true)
			ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			h := &here{t: t, listener: ln}
			t.Cleanup(h.closeAll)
			s := &scene{
				host: h, t: t, addr: ln.Addr().String(), table: NewTable(DefaultFS),
				ports: []uint16{netip.MustParseAddrPort(ln.Addr().String()).Port()},
				m:     NewMonitor(DefaultFS, src.open(t)),
			}
			var dialer net.Dialer
			dialer.SetMultipathTCP(true)
			c, err := dialer.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s.do("accept")
			if multi, err := h.conns[0].(*net.TCPConn).MultipathTCP(); err != nil || !multi {
				t.Skip("the connection is not MPTCP:", err)
			}
			s.nothing()
			if n := len(s.m.entries); n != 1 || s.m.entries[0].pid == 0 {
				t.Fatalf("%d connections are known; its row has the inode of its descriptor", n)
			}
			c.Close()
			if _, err := h.conns[0].Read(make([]byte, 1)); err == nil {
				t.Fatal("the client has not left")
			}
			s.nothing()
		})
	}
}

// A question must cost no memory, and leave one descriptor open until Close. // B44
func TestDiagAllocatesNothing(t *testing.T) {
	d := newDiag(t)
	h := &here{t: t}
	t.Cleanup(h.closeAll)
	s := newScene(t, h, "127.0.0.1:0", "127.0.0.1", d)
	for range 50 {
		s.connect()
	}
	var rows []Conn
	var states []State
	filters := []Filter{{}, {Ports: s.ports, States: watched}, {Ports: []uint16{1, 2, 3, s.ports[0]}, States: watched}}
	look := func() {
		for _, f := range filters {
			var err error
			if rows, err = d.Snapshot(rows[:0], f); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if states, err = d.Lookup(states[:0], rows); err != nil || len(states) != 50 {
			t.Fatal(len(states), err)
		}
	}
	look()
	before := openFDs(t)
	if n := testing.AllocsPerRun(50, look); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	d.Close()
	if after := openFDs(t); after != before-1 {
		t.Errorf("%d descriptors after Close, want %d", after, before-1)
	}
	look() // opens it again
	if flags, err := unix.FcntlInt(uintptr(d.netlink.link.(diagSocket)), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Error("children inherit the socket", flags, err)
	}
}
