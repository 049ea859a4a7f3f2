package netmon

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"
)

// scene is a host with a listener, a monitor, and clients in this process.
type scene struct {
	host
	t     testing.TB
	addr  string // for clients to dial
	ports []uint16
	m     *Monitor
	table *Table
	n     int // connections the host has
}

// newScene makes a scene of which the monitor looks at src; nil is a Table.
func newScene(t testing.TB, h host, listen, dial string, src Snapshotter) *scene {
	t.Helper()
	local := netip.MustParseAddrPort(h.do("listen " + listen))
	return &scene{
		host:  h,
		t:     t,
		addr:  net.JoinHostPort(dial, strconv.Itoa(int(local.Port()))),
		ports: []uint16{local.Port()},
		m:     NewMonitor(DefaultFS, src),
		table: NewTable(DefaultFS),
	}
}

// connect makes one connection and has it accepted.
func (s *scene) connect() *net.TCPConn {
	s.t.Helper()
	c := s.dial(nil)
	s.do("accept")
	s.n++
	return c
}

// dial makes a connection that waits in the accept queue, if need be from a given address.
func (s *scene) dial(from net.Addr) *net.TCPConn {
	s.t.Helper()
	c, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// poll polls once.
func (s *scene) poll() []Lost {
	s.t.Helper()
	got, err := s.m.Poll(nil, s.ports, []int{s.pid()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.m.checkBooks(s.t)
	return got
}

// nothing polls a few times, and nobody may be reported.
func (s *scene) nothing() {
	s.t.Helper()
	for range 4 {
		if got := s.poll(); len(got) > 0 {
			s.t.Fatalf("reported: %+v", got)
		}
	}
}

// reported polls until as many clients are reported as are wanted, then a few times more
// for false alarms.
func (s *scene) reported(how How, clients ...net.Conn) []Lost {
	s.t.Helper()
	var got []Lost
	eventually(s.t, func() bool {
		got = append(got, s.poll()...)
		return len(got) >= len(clients)
	})
	s.nothing()
	var want, have []string
	for _, c := range clients {
		want = append(want, fmt.Sprintln(s.pid(), how, c.LocalAddr(), c.RemoteAddr()))
	}
	for _, l := range got {
		have = append(have, fmt.Sprintln(l.PID, l.How, l.Foreign, l.Local))
		if l.Inode == 0 {
			s.t.Error("no inode")
		}
	}
	sameLines(s.t, want, have)
	return got
}

// state returns the state of the host's end of c's connection; 0 if it has no row.
func (s *scene) state(c net.Conn) State {
	s.t.Helper()
	rows, err := s.table.Snapshot(nil, Filter{Ports: s.ports, States: watched | TimeWait.Mask()})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range rows {
		if r.Remote.String() == c.LocalAddr().String() {
			return r.State
		}
	}
	return 0
}

// becomes waits until the host's end of c's connection is in one of the states.
func (s *scene) becomes(c net.Conn, states ...State) {
	s.t.Helper()
	eventually(s.t, func() bool {
		now := s.state(c)
		for _, want := range states {
			if now == want {
				return true
			}
		}
		return false
	})
}

// reset closes a connection so that the other end receives RST.
func reset(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}
