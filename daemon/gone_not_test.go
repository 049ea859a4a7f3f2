package daemon_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/brooddaemon/brood/scoreboard"
)

// noneLost checks that the policy was never called but for a client that leaves now, after everything else: when the
// parent has found that one in the kernel's tables, it has looked at all that came before. s.sweep needs another child.
func (s *site) noneLost() {
	s.t.Helper()
	s.sweep("last")
	for i, l := range s.lost(1) {
		if i > 0 || l.Text != "" {
			s.t.Errorf("told of a client who did not leave: %+v", l)
		}
	}
	if b := s.board(); b.Lost != 1 || b.Born != uint64(b.Want) {
		s.t.Errorf("the scoreboard: %+v", b.Status)
	}
}

// B40: when the child closes first, or shuts down its side, the client who follows has not left.
func TestGoneNotChildFirst(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=8")
	var held []string
	for _, network := range networks() {
		for range 50 {
			conn := s.dial(network)
			askWho(t, conn, "who")
			io.ReadAll(conn)
			conn.Close()
		}
		// Long before the job's end.
		for _, verb := range []string{"close", "shut"} {
			id := verb + network
			conn := s.dial(network)
			say(t, conn, verb+" "+id)
			io.ReadAll(conn)
			s.event("begin", id)
			conn.Close()
			held = append(held, id)
		}
	}
	s.noneLost()
	for _, id := range held {
		s.open(id)
		if e := s.event("end", id); e.Text != "not cancelled" {
			t.Errorf("%s ends: %s", id, e.Text)
		}
	}
}

// A job may say that it has done its work while its answer is still to be fetched; who leaves then was served.
func TestGoneNotAfterFinish(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=11")
	for _, network := range networks() {
		for _, w := range ways {
			id := network + w.name
			conn := s.dial(network)
			say(t, conn, "finish "+id)
			s.event("begin", id)
			if w.name == "RST" {
				// One that the parent has seen.
				defer w.leave(t, conn)
				continue
			}
			w.leave(t, conn)
		}
	}
	s.noneLost()
	for _, network := range networks() {
		for _, w := range ways {
			s.open(network + w.name)
			if e := s.event("end", network+w.name); e.Text != "not cancelled" {
				t.Errorf("%s %s ends: %s", network, w.name, e.Text)
			}
		}
	}
}

// B42: connections that a job itself has opened have no clients.
func TestGoneNotOwnConnections(t *testing.T) {
	t.Parallel()
	there, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	s := start(t, lines, "BROOD_PREFORK=3")
	for i := range 2 {
		id := fmt.Sprint("job", i)
		say(t, s.dial("tcp4"), "dial "+id+" "+there.Addr().String())
		conn, err := there.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.event("begin", id)
		if i == 1 {
			conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
	}
	s.noneLost()
	for i := range 2 {
		id := fmt.Sprint("job", i)
		s.open(id)
		if e := s.event("end", id); e.Text != "not cancelled" {
			t.Errorf("%s ends: %s", id, e.Text)
		}
	}
}

// A client who closes when he has his whole answer has not left.
func TestGoneNotServedHTTP(t *testing.T) {
	for _, concurrency := range []string{"1", "4"} {
		for _, network := range networks() {
			t.Run(concurrency+" "+network, func(t *testing.T) {
				t.Parallel()
				s := start(t, web, "BROOD_CONCURRENCY="+concurrency, "POLICY=kill", listen(network))
				for i := range 300 {
					v := s.visit(network)
					switch i % 4 {
					case 0:
						v.who()
					case 1:
						v.who("Connection: close")
					case 2:
						// net/http does not wait for what is left of a body.
						request(t, v.Conn, "POST", "/who", strings.Repeat("x", 1000))
						v.answer()
					case 3:
						v.who()
						if concurrency != "1" {
							v.who()
						}
					}
					v.Close()
				}
				s.await("rest", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running+b.Children[1].Running == 0 })
				if all := linesOf[lost](s, "lost"); len(all) > 0 {
					t.Errorf("told of %d clients who did not leave, such as %+v", len(all), all[0])
				}
				if b := s.board(); b.Born != 2 || b.Lost != 0 {
					t.Errorf("the scoreboard: %+v", b.Status)
				}
			})
		}
	}
}

// Between two requests nobody is served, so nobody can leave.
func TestGoneNotIdleHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, web, "BROOD_CONCURRENCY=4", "POLICY=kill")
	for _, network := range networks() {
		for _, w := range ways {
			for range 10 {
				v := s.visit(network)
				v.who()
				s.await("rest", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running+b.Children[1].Running == 0 })
				w.leave(t, v.Conn)
			}
		}
	}
	checkQuiet(t, s)
}

// So it is with connections on which nothing is ever asked, as those who look whether a port is open make them.
func TestGoneNotSilentHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, web, "BROOD_CONCURRENCY=4", "POLICY=kill", "GOMAXPROCS=4")
	for _, network := range networks() {
		for _, w := range ways {
			for range 100 {
				w.leave(t, s.dial(network))
			}
		}
	}
	checkQuiet(t, s)
}

// checkQuiet checks that the clients of a web daemon have caused nothing, when all of them have been seen to.
func checkQuiet(t *testing.T, s *site) {
	t.Helper()
	for range 8 {
		for _, network := range networks() {
			v := s.visit(network)
			v.who("Connection: close")
			v.Close()
		}
	}
	if all := linesOf[lost](s, "lost"); len(all) > 0 {
		t.Errorf("told of %d clients who did not leave, such as %+v", len(all), all[0])
	}
	if b := s.board(); b.Born != 2 || b.Lost != 0 {
		t.Errorf("the scoreboard: %+v", b.Status)
	}
}
