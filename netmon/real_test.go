package netmon

import (
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sameLines(t testing.TB, want, have []string) {
	t.Helper()
	slices.Sort(want)
	slices.Sort(have)
	if d := cmp.Diff(want, have); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
}

// sources are those that must give the same reports.
var sources = []struct {
	name string
	open func(t testing.TB) Snapshotter
}{
	{"procfs", func(testing.TB) Snapshotter { return NewTable(DefaultFS) }},
	{"inet_diag", func(t testing.TB) Snapshotter { return newDiag(t) }},
}

// newDiag returns a Diag that answers.
func newDiag(t testing.TB) *Diag {
	t.Helper()
	d := NewDiag()
	if err := d.Probe(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// everywhere runs a test for each source, and each kind of process and of address.
func everywhere(t *testing.T, test func(t *testing.T, s *scene)) {
	families := []struct{ name, listen, dial string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.1"},
		{"IPv6", "[::1]:0", "::1"},
		{"IPv4 on a dual-stack listener", ":0", "127.0.0.1"},
		{"IPv6 on a dual-stack listener", ":0", "::1"},
	}
	for _, f := range families {
		for _, src := range sources {
			t.Run(f.name+"/"+src.name, func(t *testing.T) {
				if f.dial == "::1" && !haveIPv6() {
					t.Skip("no IPv6")
				}
				t.Run("this process", func(t *testing.T) {
					h := &here{t: t}
					t.Cleanup(h.closeAll)
					test(t, newScene(t, h, f.listen, f.dial, src.open(t)))
				})
				t.Run("child process", func(t *testing.T) {
					test(t, newScene(t, newChild(t), f.listen, f.dial, src.open(t)))
				})
			})
		}
	}
}

func haveIPv6() bool {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err == nil {
		ln.Close()
	}
	return err == nil
}

// inChild runs a test that need not be tried everywhere.
func inChild(t *testing.T, test func(t *testing.T, s *scene)) {
	for _, src := range sources {
		t.Run(src.name, func(t *testing.T) {
			test(t, newScene(t, newChild(t), "127.0.0.1:0", "127.0.0.1", src.open(t)))
		})
	}
}

func TestClientCloses(t *testing.T) {
	everywhere(t, func(t *testing.T, s *scene) {
		c := s.connect()
		s.nothing()
		c.Close()
		s.reported(Closed, c)
		s.do("close 0")
		s.nothing()
	})
}

func TestClientResets(t *testing.T) { // B38
	everywhere(t, func(t *testing.T, s *scene) {
		c := s.connect()
		s.nothing()
		reset(t, c)
		s.reported(Reset, c)
		s.do("close 0")
		s.nothing()
		if n := len(s.m.entries); n != 0 {
			t.Errorf("%d connections remembered for ever", n)
		}
	})
}

// A half-close is reported as a close: the table does not know better.
func TestClientHalfCloses(t *testing.T) { // B39, as far as it can be seen here
	everywhere(t, func(t *testing.T, s *scene) {
		c := s.connect()
		s.nothing()
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		s.reported(Closed, c)
	})
}

func TestClientClosesBeforeAccept(t *testing.T) {
	everywhere(t, func(t *testing.T, s *scene) {
		c := s.dial(nil)
		s.nothing()
		c.Close()
		s.nothing()
		s.do("accept")
		s.reported(Closed, c)
	})
}

// Opened, accepted and ended between two looks: a close is found, as its row stays. A
// reset is missed, as nobody has ever seen the connection; neither may anybody be
// reported in its place.
func TestBetweenLooks(t *testing.T) {
	everywhere(t, func(t *testing.T, s *scene) {
		s.nothing()
		cut := s.connect()
		reset(t, cut)
		s.becomes(cut, 0)
		c := s.connect()
		c.Close()
		s.becomes(c, CloseWait)
		s.reported(Closed, c)
		// Ended by both, and over.
		both := s.connect()
		both.Close()
		s.becomes(both, CloseWait)
		s.do("close 2")
		s.becomes(both, 0, TimeWait, LastAck)
		s.nothing()
	})
}

func TestJobClosesFirst(t *testing.T) { // B40
	everywhere(t, func(t *testing.T, s *scene) {
		// Closed, the client stays.
		c := s.connect()
		s.nothing()
		s.do("close 0")
		s.becomes(c, 0, FinWait2)
		s.nothing()
		c.Close()
		s.nothing()

		// Shut down, then closed by the client, each step seen.
		c = s.connect()
		s.nothing()
		s.do("shut 1")
		s.becomes(c, FinWait2)
		s.nothing()
		c.Close()
		s.becomes(c, TimeWait)
		s.nothing()

		// The same, seen only when all is over and the descriptor still open.
		c = s.connect()
		s.nothing()
		s.do("shut 2")
		c.Close()
		s.becomes(c, TimeWait)
		s.nothing()

		// Shut down, then reset by the client.
		c = s.connect()
		s.nothing()
		s.do("shut 3")
		s.becomes(c, FinWait2)
		s.nothing()
		reset(t, c)
		s.becomes(c, 0)
		s.nothing()
	})
}

func TestJobsOwnConnections(t *testing.T) { // B42
	everywhere(t, func(t *testing.T, s *scene) {
		elsewhere, err := net.Listen("tcp", s.addr[:len(s.addr)-len(portOf(s.addr))]+"0")
		if err != nil {
			t.Fatal(err)
		}
		defer elsewhere.Close()
		client := s.connect()
		s.do("dial " + elsewhere.Addr().String())
		database, err := elsewhere.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.do("dial " + elsewhere.Addr().String())
		cache, err := elsewhere.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.nothing()
		database.Close()
		reset(t, cache.(*net.TCPConn))
		all := NewTable(DefaultFS)
		eventually(t, func() bool {
			rows, err := all.Snapshot(nil, Filter{States: CloseWait.Mask()})
			return err == nil && slices.ContainsFunc(rows, func(c Conn) bool {
				return c.Local.String() == database.RemoteAddr().String()
			})
		})
		s.nothing()
		client.Close()
		s.reported(Closed, client)
	})
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func TestTwoClientsOfOneChild(t *testing.T) { // B43
	everywhere(t, func(t *testing.T, s *scene) {
		a, b, stays := s.connect(), s.connect(), s.connect()
		s.nothing()
		a.Close()
		b.Close()
		s.reported(Closed, a, b)
		s.do("close 0")
		s.nothing()
		stays.Close()
		s.reported(Closed, stays)
	})
}

// The same pair of addresses, at once after a reset, is another connection, while the
// old one's descriptor is still open.
func TestAddressesUsedAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, s *scene) {
		// A port taken by bind is not shared with other connections, so it is free
		// to be bound again once this one is reset.
		host, _, _ := net.SplitHostPort(s.addr)
		old := s.dial(&net.TCPAddr{IP: net.ParseIP(host)})
		s.do("accept")
		s.nothing()
		reset(t, old)
		next := s.dial(old.LocalAddr())
		s.do("accept")
		if next.LocalAddr().String() != old.LocalAddr().String() {
			t.Fatal("not the same address")
		}
		first := s.reported(Reset, old)
		next.Close()
		second := s.reported(Closed, next)
		if first[0].Inode == second[0].Inode {
			t.Error("taken for the same connection")
		}
	})
}
