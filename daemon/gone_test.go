package daemon_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/brooddaemon/brood/netmon"
)

// A way in which a client leaves, and what the policy is told on TCP and on a Unix socket.
type way struct {
	name      string
	tcp, unix netmon.How
}

var ways = []way{
	{"FIN", netmon.Closed, netmon.Closed},
	{"RST", netmon.Reset, netmon.Reset},
	{"half", netmon.Closed, netmon.HalfClosed},
}

// leave hangs up. For RST on a Unix socket something must have been sent that the client has not read.
func (w way) leave(t testing.TB, conn net.Conn) {
	t.Helper()
	tcp, _ := conn.(*net.TCPConn)
	switch {
	case w.name == "half":
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		return
	case w.name == "RST" && tcp != nil:
		tcp.SetLinger(0)
	}
	conn.Close()
}

// how returns what the policy should be told.
func (w way) how(network string) netmon.How {
	if network == "unix" {
		return w.unix
	}
	return w.tcp
}

// A job is begun by a client on its connection; id names it. unread means that the client leaves something unread.
type beginner struct {
	name  string
	begin func(s *site, conn net.Conn, id string, unread bool)
}

func query(id string, unread bool) string {
	if unread {
		return "?id=" + id + "&write=1"
	}
	return "?id=" + id
}

var beginners = map[string][]beginner{
	lines: {{"line", func(s *site, conn net.Conn, id string, unread bool) {
		say(s.t, conn, "hold "+id)
		if !unread {
			io.ReadFull(conn, make([]byte, 1)) // the answer comes in one piece
			drain(s.t, conn)
		}
	}}},
	web: requests,
	raw: requests,
}

var requests = []beginner{
	{"GET", func(s *site, conn net.Conn, id string, unread bool) {
		request(s.t, conn, "GET", "/hold"+query(id, unread), "")
	}},
	// net/http does not read from the connection before the body has been read.
	{"body unread", func(s *site, conn net.Conn, id string, unread bool) {
		request(s.t, conn, "POST", "/hold"+query(id, unread), "unread")
	}},
	{"body unfinished", func(s *site, conn net.Conn, id string, unread bool) {
		request(s.t, conn, "POST", "/hold"+query(id, unread), "", "Content-Length: 1000")
	}},
	{"hijacked", func(s *site, conn net.Conn, id string, unread bool) {
		request(s.t, conn, "GET", "/hijack"+query(id, unread), "")
	}},
	// One byte of the next request, and net/http listens no more.
	{"pipelined", func(s *site, conn net.Conn, id string, unread bool) {
		request(s.t, conn, "GET", "/hold"+query(id, unread), "")
		s.event("begin", id)
		io.WriteString(conn, "G")
	}},
}

// drain reads the rest of a line.
func drain(t testing.TB, conn net.Conn) {
	t.Helper()
	for b := make([]byte, 1); b[0] != '\n'; {
		if _, err := conn.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}

// listen makes a daemon listen on one network alone.
func listen(network string) string {
	return "BROOD_LISTEN=" + map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0", "unix": "unix:socket"}[network]
}

// B38, B43: whoever accepts the connection, whatever is read from it, and however the client leaves: the policy is told
// once, and the job's context ends. The child lives on.
func TestGone(t *testing.T) {
	for _, d := range []struct{ name, scenario, concurrency string }{
		{"Conns", lines, "1"},
		{"Listeners", raw, "1"},
		{"HTTP one at a time", web, "1"},
		{"HTTP four at a time", web, "4"},
	} {
		for _, network := range networks() {
			t.Run(d.name+" "+network, func(t *testing.T) {
				t.Parallel()
				s := start(t, d.scenario, "BROOD_PREFORK=1", "BROOD_CONCURRENCY="+d.concurrency, listen(network))
				pid := s.serving()[0].PID
				n := 0
				for _, b := range beginners[d.scenario] {
					for _, w := range ways {
						n++
						s.gone(network, b, w, pid, n)
						if t.Failed() {
							t.Fatalf("%s, %s", b.name, w.name)
						}
					}
				}
				if all := s.lost(n); len(all) != n {
					t.Errorf("told %d times of %d clients", len(all), n)
				}
				if b := s.board(); b.Lost != uint64(n) || b.Born != 1 || b.Killed != 0 {
					t.Errorf("the scoreboard: %+v", b.Status)
				}
			})
		}
	}
}

// gone is one client who leaves, the nth of this child.
func (s *site) gone(network string, b beginner, w way, pid, n int) {
	s.t.Helper()
	conn := s.dial(network)
	id := fmt.Sprint("client", n)
	b.begin(s, conn, id, network == "unix" && w.name == "RST")
	begun := s.event("begin", id)
	job := s.child(pid).Job
	w.leave(s.t, conn)
	all := s.lost(n)
	got := all[n-1]
	if got.PID != pid || begun.PID != pid || got.Slot != begun.Slot || got.Generation != 1 || got.Job != job || job == 0 {
		s.t.Errorf("told %+v, want job %d", got, job)
	}
	// A reset of a Unix socket shows until somebody reads, and then it looks like a close.
	if how := w.how(network); got.How != how && (network != "unix" || b.name == "line" || how != netmon.Reset || got.How != netmon.Closed) {
		s.t.Errorf("told %v, want %v", got.How, how)
	}
	if network == "unix" {
		if got.Proto != "unix" || got.Path != s.addr("unix") || got.Local.IsValid() || got.Foreign.IsValid() {
			s.t.Errorf("told %+v, want the path", got)
		}
	} else if got.Proto != "tcp" || got.Path != "" || got.Local != addrPort(conn.RemoteAddr()) || got.Foreign != addrPort(conn.LocalAddr()) {
		s.t.Errorf("told %+v, want %v to %v", got, conn.LocalAddr(), conn.RemoteAddr())
	}
	// If nothing is left to be read, net/http sees the client leave as well, and may be the first.
	if e := s.event("end", id); e.PID != pid || e.Text != "client gone" && (b.name != "GET" || e.Text != "context canceled") {
		s.t.Errorf("the job ends: %+v", e)
	}
	conn.Close()
	s.idle(pid, uint64(n))
}

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// Who has left when his request is looked at, and was not missed before, is told of at once: the eye, which has seen it, says
// nothing more.
func TestGoneBeforeDescribe(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1")
	n := 0
	for _, network := range networks() {
		for _, w := range ways {
			id := network + w.name
			conn := s.dial(network)
			say(t, conn, "late "+id+" late")
			s.event("begin", id)
			if w.name != "RST" {
				io.ReadFull(conn, make([]byte, 1)) // the answer comes in one piece
				drain(t, conn)
			}
			w.leave(t, conn)
			if e := s.event("told", id); e.Text != "true" {
				t.Errorf("%s: told: %s", id, e.Text)
			}
			if n++; s.lost(n)[n-1].How != w.how(network) {
				t.Errorf("%s: %+v", id, s.lost(n)[n-1])
			}
			if e := s.event("end", id); e.Text != "client gone" {
				t.Errorf("%s ends: %s", id, e.Text)
			}
		}
	}
}
