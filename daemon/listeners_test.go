package daemon_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// Every address is served, however few jobs a child may run at once.
func TestListenersAll(t *testing.T) {
	for _, c := range []struct{ scenario, concurrency string }{
		{lines, "1"}, {raw, "1"}, {web, "1"}, {web, "2"},
	} {
		t.Run(c.scenario+" "+c.concurrency, func(t *testing.T) {
			t.Parallel()
			s := start(t, c.scenario, "BROOD_PREFORK=1", "BROOD_CONCURRENCY="+c.concurrency)
			for range 3 {
				for _, network := range networks() {
					if c.scenario == lines {
						askWho(t, s.dial(network), "who")
					} else {
						v := s.visit(network)
						v.who("Connection: close")
						v.Close()
					}
				}
			}
		})
	}
}

// Waiting for a connection is no job.
func TestListenersLeaveRoom(t *testing.T) {
	t.Parallel()
	s := start(t, raw, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=4")
	for i := range 4 {
		v := s.visit("tcp4")
		id := string(rune('a' + i))
		request(t, v.Conn, "GET", "/hold?gate=1&id="+id, "")
		s.event("begin", id)
	}
	if c := s.serving()[0]; c.Running != 4 || c.State != scoreboard.Reading {
		t.Errorf("the scoreboard shows %+v", c)
	}
	for i := range 4 {
		s.open(string(rune('a' + i)))
	}
}

// mixed is a daemon that has work of its own beside its clients'.
var mixed = scenario("mixed", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		go func() {
			awaitGate(ctx, "do")
			err := c.Do(ctx, "housekeeping", func(context.Context) error {
				note(event{What: "done"})
				return nil
			})
			if err != nil {
				note(event{What: "not done", Text: err.Error()})
			}
		}()
		return lineLoop(ctx, c)
	})
})

// A job without a connection has its turn in a child that waits for connections, and takes turns with them.
func TestDoBesideConns(t *testing.T) {
	t.Parallel()
	s := start(t, mixed, "BROOD_PREFORK=1")
	pid, _ := askWho(t, s.dial("tcp4"), "who")
	s.idle(pid, 1)
	s.open("do")
	s.event("done", "")
	s.idle(pid, 2)
	askWho(t, s.dial("tcp4"), "who")
}

// closing is a daemon that closes one of its listeners.
var closing = scenario("closing", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		ls, err := c.Listeners()
		if err != nil {
			return err
		}
		note(event{What: "address", Text: ls[0].Addr().Network() + " " + ls[0].Addr().String()})
		go func() {
			awaitGate(ctx, "close")
			ls[0].Close()
		}()
		for {
			conn, err := ls[0].Accept()
			if err != nil {
				note(event{What: "accept", Text: errString(errors.Is(err, net.ErrClosed)) + err.Error()})
				break
			}
			conn.Write([]byte("hello"))
			conn.Close()
		}
		<-ctx.Done()
		_, err = c.Listeners()
		note(event{What: "listeners", Text: errString(errors.Is(err, daemon.ErrDraining))})
		if _, err = ls[0].Accept(); !errors.Is(err, net.ErrClosed) {
			note(event{What: "wrong", Text: "a closed listener accepts"})
		}
		return nil
	})
})

func errString(is bool) string {
	if is {
		return "as it should be: "
	}
	return "wrong: "
}

// A listener that is closed in one child leaves the others theirs. A child's own Accept ends when it drains.
func TestListenerClose(t *testing.T) {
	t.Parallel()
	s := start(t, closing, "BROOD_PREFORK=1")
	if e := s.event("address", ""); e.Text != "tcp "+s.addr("tcp4") {
		t.Errorf("its address is %q", e.Text)
	}
	s.open("close")
	if e := s.event("accept", ""); !strings.HasPrefix(e.Text, "as it") || !strings.Contains(e.Text, "accept tcp "+s.addr("tcp4")) {
		t.Errorf("Accept returns %q", e.Text)
	}
	// Clients wait for the next child.
	conn := s.dial("tcp4")
	os.Remove(s.path("gate-close"))
	s.reload()
	hello := make([]byte, 5)
	if _, err := conn.Read(hello); err != nil || string(hello) != "hello" {
		t.Errorf("the client reads %q, %v", hello, err)
	}
	if e := s.event("listeners", ""); !strings.HasPrefix(e.Text, "as it") {
		t.Error("a draining child has listeners to give")
	}
	if es := s.eventsOf("wrong", ""); len(es) > 0 {
		t.Error(es[0].Text)
	}
}
