package daemon_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
)

// conns is a daemon that answers each connection with one line, after a moment.
var conns = scenario("conns", func() daemon.Config {
	return everywhere(serve.Conns(func(ctx context.Context, conn net.Conn) {
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil {
			time.Sleep(20 * time.Millisecond)
			fmt.Fprintf(conn, "%s %v\n", strings.TrimSpace(line), ctx.Err() == nil)
		}
	}))
})

// B23: six kinds of clients, and new generations all the time. No connection is refused or reset, no request is dropped.
func TestReloadLosesNothing(t *testing.T) {
	t.Parallel()
	overHTTP := start(t, web, "BROOD_CONCURRENCY=8", listen("tcp4"))
	oneByOne := start(t, web, "BROOD_CONCURRENCY=1", "BROOD_PREFORK=3", listen("tcp4"))
	overTCP := start(t, conns, "BROOD_PREFORK=3", listen("tcp4"))
	var clients []*client
	for _, k := range []struct {
		name  string
		s     *site
		once  func(*client) error
		count int
	}{
		{"short", overHTTP, short, 2},
		{"kept and busy", overHTTP, kept(0), 1},
		{"kept and thinking", overHTTP, kept(300 * time.Millisecond), 8},
		{"in pieces", overHTTP, half, 8},
		{"late", overHTTP, late, 8},
		{"plain", overTCP, plain, 4},
		{"one by one", oneByOne, short, 2},
	} {
		for range k.count {
			clients = append(clients, &client{name: k.name, addr: k.s.addr("tcp4"), once: k.once})
		}
	}
	stop := rush(t, 2*time.Millisecond, clients)
	sites := []*site{overHTTP, oneByOne, overTCP}
	for range 10 {
		for _, s := range sites {
			s.reload()
		}
	}
	t.Log("served:", stop())
	for _, s := range sites {
		// The old generations have gone.
		for _, c := range s.serving() {
			if c.Generation != 11 {
				t.Errorf("generation %d", c.Generation)
			}
		}
		if b := s.board(); b.Died+b.Killed+b.Lost > 0 || b.Born != uint64(11*b.Want) {
			t.Errorf("the scoreboard: %+v", b.Status)
		}
	}
}

// B23: those who are accepted at the last moment are served, however many generations pass by.
func TestReloadLosesNobodyLate(t *testing.T) {
	t.Parallel()
	s := start(t, web, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=8", listen("tcp4"))
	var clients []*client
	for range 4 {
		clients = append(clients, &client{name: "short", addr: s.addr("tcp4"), once: short})
	}
	stop := rush(t, 1, clients)
	for range cycles(60) {
		s.reload()
	}
	t.Log("served:", stop())
}

// B25: an old child waits for a connection that is idle, but not longer than LingerTimeout.
func TestLinger(t *testing.T) {
	const linger = time.Second
	for _, concurrency := range []string{"1", "8"} {
		t.Run(concurrency, func(t *testing.T) {
			t.Parallel()
			s := start(t, web, "BROOD_PREFORK=1", "BROOD_CONCURRENCY="+concurrency, "BROOD_LINGER_TIMEOUT="+linger.String(), listen("tcp4"))
			old := s.serving()[0].PID
			idle := s.visit("tcp4") // has asked nothing yet
			busy := idle
			if concurrency != "1" {
				if got := idle.who(); got != old {
					t.Fatalf("served by %d", got)
				}
				busy = s.visit("tcp4")
				request(t, busy.Conn, "GET", "/hold?gate=1&id=busy", "")
				s.event("begin", "busy")
			} else {
				eventually(t, "the connection to be accepted", func() bool { return s.child(old).State == 'R' })
			}
			asked := time.Now()
			s.reload()
			if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the idle client reads: %v", err)
			}
			if after := time.Since(asked); after < linger {
				t.Errorf("the idle client is dropped after %v", after)
			}
			if busy != idle {
				// The limit is for those who are idle. Who was busy until now may come back once, too.
				s.open("busy")
				if body, _ := busy.answer(); body != "bye\n" {
					t.Errorf("the busy client gets %q", body)
				}
				if _, resp := busy.get("/who"); !resp.Close {
					t.Errorf("coming back the busy client gets %v, and is not told to leave", resp.Header)
				}
			}
			eventually(t, "the old child to leave", func() bool { return gone(old) })
			if late := time.Since(asked); late > linger+soon {
				t.Errorf("the old child leaves after %v", late)
			}
		})
	}
}

// A request on a kept connection that comes while the child drains is answered, and is the last one.
func TestLingerAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, web, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=8", "BROOD_LINGER_TIMEOUT=20s", listen("tcp4"))
	old := s.serving()[0].PID
	kept, silent, halfway := s.visit("tcp4"), s.visit("tcp4"), s.visit("tcp4")
	kept.who()
	io.WriteString(halfway.Conn, "GET /who HTTP/1.1\r\nHo")
	for _, v := range []*visit{silent, halfway} {
		eventually(t, "the old child to accept", func() bool {
			return slices.ContainsFunc(connectionInodes(t, v.Conn), func(inode uint64) bool { return len(descriptors(t, old, inode)) > 0 })
		})
	}
	asked := time.Now()
	s.reload()
	// It takes a moment until the old child knows.
	eventually(t, "the kept one to be told to leave", func() bool {
		body, resp := kept.get("/who")
		if !strings.HasPrefix(body, fmt.Sprint(old)) {
			t.Fatalf("the kept one is answered %q", body)
		}
		return resp.Close
	})
	io.WriteString(halfway.Conn, "st: there\r\n\r\n")
	request(t, silent.Conn, "GET", "/who", "")
	for i, v := range []*visit{halfway, silent} {
		body, resp := v.answer()
		if !resp.Close || !strings.HasPrefix(body, fmt.Sprint(old)) {
			t.Errorf("client %d is answered %q, %v", i, body, resp.Header)
		}
		if _, err := v.r.ReadByte(); err != io.EOF {
			t.Errorf("client %d reads on: %v", i, err)
		}
	}
	// Nobody is left, so nobody is waited for.
	eventually(t, "the old child to leave", func() bool { return gone(old) })
	if late := time.Since(asked); late > 3*soon {
		t.Errorf("the old child leaves after %v", late)
	}
}
