package netmon

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// A listener on all addresses of both families shows IPv4 clients in IPv6 rows; they must
// come out as IPv4, and be found again.
func TestLookup(t *testing.T) {
	for _, f := range []struct{ listen, dial string }{{"127.0.0.1:0", "127.0.0.1"}, {"[::1]:0", "::1"}, {":0", "127.0.0.1"}, {":0", "::1"}} {
		t.Run(f.listen+" "+f.dial, func(t *testing.T) {
			if f.dial == "::1" && !haveIPv6() {
				t.Skip("no IPv6")
			}
			d := newDiag(t)
			h := &here{t: t}
			t.Cleanup(h.closeAll)
			s := newScene(t, h, f.listen, f.dial, d)
			var clients []*net.TCPConn
			for range 2*maxBatch + 3 {
				clients = append(clients, s.connect())
			}
			rows, err := d.Snapshot(nil, Filter{Ports: s.ports, States: Established.Mask()})
			if err != nil || len(rows) != len(clients) {
				t.Fatal(len(rows), err)
			}
			at := func(c *net.TCPConn) int {
				return slices.IndexFunc(rows, func(r Conn) bool { return r.Remote.String() == c.LocalAddr().String() })
			}
			want := slices.Repeat([]State{Established}, len(rows))
			look := func() {
				t.Helper()
				got := []State{Listen}
				eventually(t, func() bool {
					var err error
					got, err = d.Lookup(got[:1], rows)
					if err != nil {
						t.Fatal(err)
					}
					return slices.Equal(got[1:], want)
				})
				if got[0] != Listen {
					t.Error("what was in dst is gone")
				}
			}
			look()
			clients[0].Close()
			want[at(clients[0])] = CloseWait
			reset(t, clients[1])
			want[at(clients[1])] = 0
			h.do("shut 2")
			mine := slices.IndexFunc(rows, func(r Conn) bool { return r.Remote.String() == h.conns[2].RemoteAddr().String() })
			want[mine] = FinWait2
			look()

			rows[3].Cookie++
			want[3] = 0
			if got, err := d.Lookup(nil, rows[3:4]); err != nil || got[0] != 0 {
				t.Error("another cookie is another socket:", got, err)
			}
			rows[3].Cookie = 0
			if got, err := d.Lookup([]State{Listen}, rows); err == nil || len(got) != 1 || !strings.Contains(err.Error(), "cookie") {
				t.Error(got, err)
			}
		})
	}
}

// Where the client is on this host, a half-close can be told from a close. // B39
func TestConfirm(t *testing.T) {
	everywhere(t, func(t *testing.T, s *scene) {
		d := newDiag(t)
		confirm := func(l Lost, want How) {
			t.Helper()
			eventually(t, func() bool {
				got, err := d.Confirm(l)
				if err != nil {
					t.Fatal(err)
				}
				return got == want
			})
		}
		half, full, cut := s.connect(), s.connect(), s.connect()
		s.nothing()
		if err := half.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		l := s.reported(Closed, half)[0]
		confirm(l, HalfClosed)
		half.Close()
		confirm(l, Closed)
		full.Close()
		confirm(s.reported(Closed, full)[0], Closed)
		reset(t, cut)
		confirm(s.reported(Reset, cut)[0], Reset)
		l.Foreign = netip.MustParseAddrPort("192.0.2.1:99")
		confirm(l, 0)
	})
}

// The kernel compares cookies; if it did not, or gave the listener instead, the answer
// must not be taken for the connection's.
func TestLookupOfAnother(t *testing.T) {
	asked := conn("10.0.0.1:80", "10.0.0.2:5000", 11, Established)
	asked.Cookie = 5
	for _, change := range []func(c *Conn){
		func(c *Conn) { c.Cookie = 6 },
		func(c *Conn) { c.State = Listen },
		func(c *Conn) { c.Remote = netip.MustParseAddrPort("0.0.0.0:0") },
	} {
		answer := asked
		change(&answer)
		d, _ := fakeDiag([]any{message(byFam, 0, 0, diagBody(answer)...)})
		if got, err := d.Lookup(nil, []Conn{asked}); err != nil || got[0] != 0 {
			t.Error(answer, got, err)
		}
	}
}
