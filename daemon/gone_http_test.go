package daemon_test

import (
	"strings"
	"testing"

	"github.com/brooddaemon/brood/scoreboard"
)

// A client may send his next request ahead and leave: neither that one is worked for.
func TestGonePipelined(t *testing.T) {
	for _, network := range networks() {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			s := start(t, web, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=4", listen(network))
			conn := s.dial(network)
			for _, id := range []string{"first", "second"} {
				request(t, conn, "POST", "/hold?id="+id, "unread")
			}
			s.event("begin", "first")
			// A close would show again when the first answer is sent.
			conn.(interface{ CloseWrite() error }).CloseWrite()
			for _, id := range []string{"first", "second"} {
				// net/http may see it first when it reads on.
				if e := s.event("end", id); e.Text != "client gone" && e.Text != "context canceled" {
					t.Errorf("the %s job ends: %s", id, e.Text)
				}
			}
			if all := s.lost(2); all[0].Job == all[1].Job {
				t.Errorf("told %+v", all)
			}
		})
	}
}

// A client who has closed before the request is looked at has left as well: he is skipped, or lost.
func TestGoneBeforeBegin(t *testing.T) {
	for _, concurrency := range []string{"1", "4"} {
		t.Run(concurrency, func(t *testing.T) {
			t.Parallel()
			s := start(t, web, "BROOD_PREFORK=1", "BROOD_CONCURRENCY="+concurrency, listen("tcp4"))
			for i := range 20 {
				conn := s.dial("tcp4")
				id := strings.Repeat("x", i+1)
				request(t, conn, "POST", "/hold?id="+id, "unread")
				conn.Close()
				s.await("him to be seen to", func(b *scoreboard.Snapshot) bool {
					return skipped(b)+int(b.Lost) == i+1 && b.Children[0].Running == 0
				})
			}
			ends := s.eventsOf("end", "")
			for _, e := range ends {
				if e.Text != "client gone" {
					t.Errorf("the job ends: %s", e.Text)
				}
			}
			if n := len(s.lost(0)); n != len(ends) || n+skipped(s.board()) != 20 {
				t.Errorf("%d clients were lost and %d skipped, %d jobs have run", n, skipped(s.board()), len(ends))
			}
		})
	}
}

// A handler may give the connection to somebody else and return. The job goes on until the connection is closed.
func TestGoneDetached(t *testing.T) {
	for _, c := range []struct{ network, concurrency string }{{"tcp4", "1"}, {"tcp4", "4"}, {"unix", "1"}, {"unix", "4"}} {
		t.Run(c.network+" "+c.concurrency, func(t *testing.T) {
			t.Parallel()
			s := start(t, web, "BROOD_CONCURRENCY="+c.concurrency, listen(c.network))
			leaves, stays := s.dial(c.network), s.dial(c.network)
			request(t, leaves, "GET", "/detach?id=leaves", "")
			request(t, stays, "GET", "/detach?id=stays", "")
			pid := s.event("begin", "leaves").PID
			old := s.event("begin", "stays").PID
			leaves.Close()
			if e := s.event("end", "leaves"); e.Text != "client gone" {
				t.Errorf("the job ends: %s", e.Text)
			}
			if got := s.lost(1)[0]; got.PID != pid || got.Text != "GET /detach" {
				t.Errorf("told %+v", got)
			}
			// A child that drains waits for it.
			s.reload()
			if gone(old) {
				t.Error("the child has gone")
			}
			stays.Close()
			s.event("end", "stays")
			eventually(t, "the old child to leave", func() bool { return gone(old) })
		})
	}
}
