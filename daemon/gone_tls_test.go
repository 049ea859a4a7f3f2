package daemon_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/brooddaemon/brood/netmon"
	"github.com/brooddaemon/brood/scoreboard"
)

// B38, B43: over TLS a client who leaves is told once as well, whatever he has asked for and however he leaves: with a
// close_notify before his FIN, with the FIN alone, or with a reset.
func TestGoneTLSRows(t *testing.T) {
	for _, concurrency := range []string{"1", "4"} {
		t.Run(concurrency, func(t *testing.T) {
			t.Parallel()
			s := startTLS(t, "BROOD_PREFORK=1", "BROOD_CONCURRENCY="+concurrency)
			n := 0
			for _, b := range requests {
				if b.name == "hijacked" {
					continue // a handler gets the connection of TLS there
				}
				for _, w := range []way{{name: "close_notify", tcp: netmon.Closed}, ways[0], ways[1]} {
					if w.name == "close_notify" && b.name == "GET" {
						continue // net/http may end the job before the FIN is there, and then nobody works for him
					}
					n++
					id := fmt.Sprint("client", n)
					conn := s.visit().Conn.(*tls.Conn)
					b.begin(s.site, conn, id, false)
					e := s.event("begin", id)
					if w.name == "close_notify" {
						conn.Close()
					} else {
						w.leave(t, conn.NetConn())
					}
					if got := s.lost(n)[n-1]; got.PID != e.PID || got.How != w.tcp {
						t.Errorf("%s, %s: told %+v", b.name, w.name, got)
					}
					if e := s.event("end", id); e.Text != "client gone" && (b.name != "GET" || e.Text != "context canceled") {
						t.Errorf("%s, %s: the job ends: %s", b.name, w.name, e.Text)
					}
					s.idle(e.PID, uint64(n))
				}
			}
			if all := s.lost(n); len(all) != n {
				t.Errorf("told %d times of %d clients", len(all), n)
			}
		})
	}
}

// A stream of HTTP/2 that its client gives up ends alone: its connection is there. When that is closed all that is left on
// it ends, also what has a body that nobody reads, and one client has left.
func TestGoneHTTP2(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=8")
	c, hangUp := s.client()
	var all sync.WaitGroup
	defer all.Wait()
	post := func(ctx context.Context, id string) {
		all.Go(func() {
			r, err := http.NewRequestWithContext(ctx, "POST", "https://"+s.addr("tcp4")+"/hold?id="+id, strings.NewReader("unread"))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := c.Do(r)
			if err == nil {
				t.Errorf("%s is answered", id)
				resp.Body.Close()
			}
		})
		s.event("begin", id)
	}
	if _, err := s.get(c, "/who"); err != nil { // the connection that the others share
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	post(ctx, "givenup")
	post(context.Background(), "one")
	post(context.Background(), "two")
	giveUp()
	if e := s.event("end", "givenup"); e.Text != "context canceled" {
		t.Errorf("the stream's job ends: %s", e.Text)
	}
	s.remains("the others at work", func() bool {
		return len(s.eventsOf("end", "")) == 1 && len(linesOf[lost](s.site, "lost")) == 0
	})
	hangUp()
	got := s.lost(1)[0]
	s.event("end", "one")
	s.event("end", "two")
	s.await("rest", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running == 0 })
	if n := len(s.lost(1)); n != 1 || got.How != netmon.Closed && got.How != netmon.Reset {
		t.Errorf("told %d times: %+v", n, got)
	}
}
