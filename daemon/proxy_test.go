package daemon_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/brooddaemon/brood/netmon"
	"github.com/brooddaemon/brood/scoreboard"
)

// The client and the server that a proxy of these tests speaks of.
const (
	clientAddr = "192.0.2.1:4711"
	serverAddr = "192.0.2.2:443"
)

// header is what a proxy says who has come for clientAddr.
func header(t testing.TB, version byte) []byte {
	t.Helper()
	return headerOf(t, version, clientAddr, serverAddr)
}

func headerOf(t testing.TB, version byte, client, server string) []byte {
	t.Helper()
	tcp := func(a string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a)) }
	return format(t, proxyproto.HeaderProxyFromAddrs(version, tcp(client), tcp(server)))
}

func format(t testing.TB, h *proxyproto.Header) []byte {
	t.Helper()
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// behind is the environment of a daemon behind a proxy.
func behind(version string) string {
	return "BROOD_LISTEN=127.0.0.1:0,proxy=" + version + " unix:socket,proxy=" + version
}

// proxied connects as a proxy does.
func (s *site) proxied(network string) net.Conn {
	s.t.Helper()
	conn := s.dial(network)
	if _, err := conn.Write(header(s.t, 2)); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// The program sees the addresses that the proxy tells, or those of the proxy if it has come for itself, and each byte that follows the
// header, in whatever pieces all of it comes.
func TestProxyAddresses(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1", behind("any"))
	unixes := &proxyproto.Header{
		Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.UnixStream,
		SourceAddr: &net.UnixAddr{Name: "/run/a", Net: "unix"}, DestinationAddr: &net.UnixAddr{Name: "/run/b", Net: "unix"},
	}
	long := proxyproto.HeaderProxyFromAddrs(2, unixes.SourceAddr, unixes.DestinationAddr)
	if err := long.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_NOOP, Value: make([]byte, 3000)}}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		name   string
		header []byte
		ends   string // empty: those of the connection
	}{
		{"v1", header(t, 1), clientAddr + " " + serverAddr},
		{"v2", header(t, 2), clientAddr + " " + serverAddr},
		{"v1, IPv6", headerOf(t, 1, "[2001:db8::1]:1", "[2001:db8::2]:2"), "[2001:db8::1]:1 [2001:db8::2]:2"},
		{"v2, IPv6", headerOf(t, 2, "[2001:db8::1]:1", "[2001:db8::2]:2"), "[2001:db8::1]:1 [2001:db8::2]:2"},
		{"v2, IPv4 in IPv6", headerOf(t, 2, "[::ffff:192.0.2.1]:1", "[2001:db8::2]:2"), "192.0.2.1:1 [2001:db8::2]:2"},
		{"v2, Unix", format(t, unixes), "/run/a /run/b"},
		{"v2, long", format(t, long), "/run/a /run/b"},
		{"v1, unknown", []byte("PROXY UNKNOWN\r\n"), ""},
		{"v1, unknown with addresses", []byte("PROXY UNKNOWN ffff:f ffff:f 1 2\r\n"), ""},
		{"v2, local", format(t, &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}), ""},
	} {
		for _, network := range []string{"tcp4", "unix"} {
			for _, piece := range []int{len(d.header) + 5, len(d.header), 100, 13, 1} {
				rest := append(d.header[:len(d.header):len(d.header)], "ends\n"...)
				if len(rest)/piece > 500 {
					continue // it would not tell more
				}
				conn := s.dial(network)
				for len(rest) > 0 {
					n, err := conn.Write(rest[:min(piece, len(rest))])
					if err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				want := d.ends
				if want == "" {
					if want = conn.LocalAddr().String() + " " + conn.RemoteAddr().String(); network == "unix" {
						want = "@ " + conn.RemoteAddr().String()
					}
				}
				got, err := io.ReadAll(conn)
				if strings.TrimSpace(string(got)) != want || err != nil {
					t.Errorf("%s on %s in pieces of %d: the program sees %q, %v, want %q", d.name, network, piece, got, err, want)
				}
			}
		}
	}
}

// What the kernel knows is of the connection with the proxy, whose address is there, too.
func TestProxyTCPInfo(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1", behind("any"))
	conn := s.proxied("tcp4")
	want := fmt.Sprint(serverAddr, " ", clientAddr, " ", conn.LocalAddr(), " established <nil>")
	if got := ask(t, conn, "info"); got != want {
		t.Errorf("the program is told %q, want %q", got, want)
	}
	conn = s.dial("tcp4")
	io.WriteString(conn, "PROXY UNKNOWN\r\n")
	want = fmt.Sprint(conn.RemoteAddr(), " ", conn.LocalAddr(), " invalid AddrPort established <nil>")
	if got := ask(t, conn, "info"); got != want {
		t.Errorf("the program is told %q, want %q", got, want)
	}
}

// Who does not say for whom he comes is not served, no job begins, and the log tells of it; but not of those who only look whether
// somebody is there.
func TestProxyRefused(t *testing.T) {
	t.Parallel()
	for _, d := range []struct {
		version, said string
		end           bool
		log           string
	}{
		{"any", "who\n", false, "does not begin with a header"},
		{"any", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", false, "does not begin with a header"},
		{"any", "PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\nwho\n", false, "makes no sense"},
		{"any", "PROXY TCP4 192.0.2.1 192.0.2.2 4711 x\r\nwho\n", false, "makes no sense"},
		{"any", "PROXY TCP4 " + strings.Repeat("1", 200), false, "too long"},
		{"any", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", false, "too long"},
		{"any", "\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0c0123456789ab", false, "datagram"},
		{"any", "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c0123456789ab", false, "makes no sense"},
		{"any", "PROXY TCP4 192.0.2.1", true, "ended within the header"},
		{"any", "PROXY TCP4 192.0.2.1", false, "has come within 150ms"},
		{"any", "", false, "has come within 150ms"},
		{"any", "", true, ""},
		{"v1", string(header(t, 2)) + "who\n", false, "another version"},
		{"v2", string(header(t, 1)) + "who\n", false, "another version"},
	} {
		t.Run(fmt.Sprintf("%s %.20q %v", d.version, d.said, d.end), func(t *testing.T) {
			t.Parallel()
			wait := map[bool]string{true: "1h", false: "150ms"}[d.end]
			s := launchAs(t, lines, logged, "BROOD_PREFORK=1", behind(d.version), "HEADER_WAIT="+wait).served()
			for _, network := range []string{"unix", "tcp4"} {
				// The one before has been closed; his job may end a moment after that.
				s.await("nobody", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running == 0 })
				conn := s.dial(network)
				io.WriteString(conn, d.said)
				if d.end {
					s.await("him", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running == 1 })
					conn.(interface{ CloseWrite() error }).CloseWrite()
				}
				if got, _ := io.ReadAll(conn); len(got) > 0 {
					t.Errorf("on %s it is answered %q", network, got)
				}
			}
			b := s.await("rest", func(b *scoreboard.Snapshot) bool {
				return b.Children[0].Running == 0 && b.Children[0].State == scoreboard.Idle
			})
			if c := b.Children[0]; c.Done != 0 || c.Skipped != map[bool]uint64{true: 2}[d.log == ""] {
				t.Errorf("done %d, skipped %d", c.Done, c.Skipped)
			}
			eventually(t, fmt.Sprintf("%q in the log", d.log), func() bool { return strings.Contains(s.log(), d.log) })
			if d.log == "" && strings.Contains(s.log(), "has been closed") {
				t.Errorf("the log:\n%s", s.log())
			}
			if n := len(linesOf[lost](s, "lost")); n > 0 {
				t.Errorf("%d clients are said to be lost", n)
			}
			if lines, _ := os.ReadFile(s.path("access.log")); len(lines) > 0 {
				t.Errorf("the access log: %s", lines)
			}
		})
	}
}

// Where clients are named it is they, and not the proxy: on the scoreboard, in the access log, and when they leave, which a policy is
// told with both.
func TestProxyNames(t *testing.T) {
	for _, d := range []struct{ name, scenario, concurrency string }{
		{"Conns", lines, "1"},
		{"Listeners", raw, "4"},
		{"HTTP one at a time", web, "1"},
		{"HTTP four at a time", web, "4"},
	} {
		for _, network := range []string{"tcp4", "unix"} {
			t.Run(d.name+" "+network, func(t *testing.T) {
				t.Parallel()
				s := launchAs(t, d.scenario, logged, "BROOD_PREFORK=1", "BROOD_CONCURRENCY="+d.concurrency, behind("any")).served()
				n := 0
				for _, w := range ways {
					conn, id := s.proxied(network), "job"+fmt.Sprint(n)
					b := beginners[d.scenario][min(1, len(beginners[d.scenario])-1)]
					b.begin(s, conn, id, network == "unix" && w.name == "RST")
					e := s.event("begin", id)
					if c := s.child(e.PID); c.Client != clientAddr {
						t.Errorf("on the scoreboard he is %q", c.Client)
					}
					w.leave(t, conn)
					n++
					got := s.lost(n)[n-1]
					if got.Foreign.String() != clientAddr || got.PID != e.PID {
						t.Errorf("%s: told %+v", w.name, got)
					}
					if network == "tcp4" && (got.Proto != "tcp" || got.Proxy != addrPort(conn.LocalAddr()) || got.Local != addrPort(conn.RemoteAddr()) || got.How != w.tcp) {
						t.Errorf("%s: told %+v", w.name, got)
					}
					if network == "unix" && (got.Proto != "unix" || got.Proxy.IsValid() || got.Path != s.addr("unix")) {
						t.Errorf("%s: told %+v", w.name, got)
					}
					if e := s.event("end", id); e.Text != "client gone" {
						t.Errorf("%s: the job ends: %s", w.name, e.Text)
					}
					conn.Close()
				}
				s.wantClients(n, clientAddr)
				if want := "client=" + clientAddr; strings.Count(s.log(), want) != n || strings.Contains(s.log(), "proxy=127") != (network == "tcp4") {
					t.Errorf("the log has not %d times %q:\n%s", n, want, s.log())
				}
			})
		}
	}
}

// wantClients waits for n lines of the access log, and looks whose they are.
func (s *site) wantClients(n int, client string) {
	s.t.Helper()
	s.accessed(n)
	log, err := os.ReadFile(s.path("access.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		var l struct{ Client string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Client != client {
			s.t.Errorf("the access log: %s", line)
		}
	}
}

// Rules are for clients, and for a proxy only if it comes for itself.
func TestProxyRules(t *testing.T) {
	for _, d := range []struct {
		rule, refused string
		theirs, own   bool // whether the client, and the proxy for itself, is served
	}{
		{"BROOD_DENY=192.0.2.1", "192.0.2.1", false, true},
		{"BROOD_ALLOW=192.0.2.0/24", "127.0.0.1", true, false},
		{"BROOD_DENY=127.0.0.1", "127.0.0.1", true, false},
	} {
		for _, scenario := range []string{lines, raw} {
			t.Run(d.rule+" "+scenario, func(t *testing.T) {
				t.Parallel()
				s := start(t, scenario, "BROOD_PREFORK=1", behind("any"), d.rule)
				served := func(head []byte) bool {
					conn := s.dial("tcp4")
					defer conn.Close()
					conn.Write(append(head, map[string]string{lines: "who\n", raw: "GET /who HTTP/1.0\r\n\r\n"}[scenario]...))
					said, _ := io.ReadAll(conn)
					return len(said) > 0
				}
				if got := served(header(t, 1)); got != d.theirs {
					t.Errorf("the client is served: %v", got)
				}
				if got := served([]byte("PROXY UNKNOWN\r\n")); got != d.own {
					t.Errorf("the proxy is served for itself: %v", got)
				}
				// Also who has sent nothing that is left unread sees a reset, and no end in order.
				head := header(t, 1)
				if d.theirs {
					head = []byte("PROXY UNKNOWN\r\n")
				}
				conn := s.dial("tcp4")
				defer conn.Close()
				conn.Write(head)
				if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("who is refused is told: %v", err)
				}
				b := s.await("rest", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running == 0 && b.Children[0].Done == 1 })
				if got := b.Children[0].Refused; got != 2 {
					t.Errorf("%d are refused", got)
				}
				eventually(t, "the log to tell", func() bool { return strings.Contains(s.log(), "client refused") })
				if !strings.Contains(s.log(), "addr="+d.refused+" ") {
					t.Errorf("the log:\n%s", s.log())
				}
			})
		}
	}
}

// What the parent alone has seen it tells in the same way.
func TestProxySweep(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1", behind("any"))
	conn := s.proxied("tcp4")
	pid, _ := askWho(t, conn, "hold one")
	s.signal(syscall.SIGSTOP, pid)
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
	conn.Close()
	got := s.lost(1)[0]
	s.signal(syscall.SIGCONT, pid)
	if got.PID != pid || got.Foreign.String() != clientAddr || got.Proxy != addrPort(conn.LocalAddr()) || got.Local != addrPort(conn.RemoteAddr()) ||
		got.How != netmon.Closed || got.Proto != "tcp" {
		t.Errorf("told %+v", got)
	}
	s.event("end", "one")
}

// With both the header comes first.
func TestProxyTLS(t *testing.T) {
	t.Parallel()
	p := newPair(t, 7)
	s := launchAs(t, lines, withPair(p, ",proxy"), "BROOD_PREFORK=1").served()
	if got := ask(t, s.secured(s.proxied("tcp4"), p), "ends"); got != clientAddr+" "+serverAddr+" TLS 1.3" {
		t.Errorf("the program sees %q", got)
	}
	over := s.proxied("tcp4")
	conn := s.secured(over, p)
	pid, _ := askWho(t, conn, "hold one")
	conn.Close()
	if got := s.lost(1)[0]; got.PID != pid || got.Foreign.String() != clientAddr || got.Proxy != addrPort(over.LocalAddr()) || got.How != netmon.Closed {
		t.Errorf("told %+v", got)
	}
	s.event("end", "one")
}

// A proxy that says nothing holds up nobody else, in a child that has room for more, and the child waits for it when it is to leave: a
// reload loses nobody.
func TestProxySilent(t *testing.T) {
	for _, d := range []struct{ name, scenario string }{{"Conns", lines}, {"Listeners", raw}, {"HTTP", web}} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, d.scenario, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=3", behind("any"), "HEADER_WAIT=1h", "BROOD_LINGER_TIMEOUT=50ms")
			silent := []net.Conn{s.dial("tcp4"), s.dial("unix")}
			old := s.await("both of them", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running == 2 }).Children[0]
			if old.State != scoreboard.Reading {
				t.Errorf("the child is %v", old.State)
			}
			asks := func(conn net.Conn) (pid int) {
				t.Helper()
				if d.scenario == lines {
					pid, _ = askWho(t, conn, "who")
					return pid
				}
				return newVisit(t, conn).who()
			}
			for range 3 {
				conn := s.proxied("tcp4")
				if pid := asks(conn); pid != old.PID {
					t.Errorf("child %d has served, want %d", pid, old.PID)
				}
				conn.Close()
			}
			s.reload()
			for i, conn := range silent {
				conn.SetDeadline(time.Now().Add(patience))
				if _, err := conn.Write(header(t, 1)); err != nil {
					t.Fatal(err)
				}
				if pid := asks(conn); pid != old.PID {
					t.Errorf("child %d has served the %dth, want %d", pid, i+1, old.PID)
				}
				conn.Close()
			}
			eventually(t, "the old child to leave", func() bool { return gone(old.PID) })
		})
	}
}

// A stop does not wait for a proxy that says nothing.
func TestProxySilentStop(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1", behind("any"), "HEADER_WAIT=1h", "BROOD_KILL_GRACE=1h")
	s.dial("tcp4")
	s.await("him", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running == 1 })
	s.stop(syscall.SIGINT)
	if strings.Contains(s.log(), "has been closed") {
		t.Error("the log complains of somebody who had the time")
	}
}
