package daemon_test

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/brooddaemon/brood/scoreboard"
)

// B43: two hundred clients of one child leave at the same time, in every way; each is told once, and nobody beside them.
func TestGoneTwoHundred(t *testing.T) {
	t.Parallel()
	const many = 200
	s := start(t, lines, "BROOD_PREFORK=1", "BROOD_MAX_CHILDREN=1", fmt.Sprint("BROOD_CONCURRENCY=", many+1))
	type client struct {
		conn net.Conn
		way  way
		unix bool
	}
	stays := s.held(lines, "tcp4", "stays", ways[2])
	var all []client
	for i := range many {
		network := networks()[i%len(networks())]
		c := client{s.dial(network), ways[i/len(networks())%len(ways)], network == "unix"}
		askWho(t, c.conn, fmt.Sprint("hold job", i))
		all = append(all, c)
	}
	var leaving sync.WaitGroup
	for _, c := range all {
		leaving.Go(func() { c.way.leave(t, c.conn) })
	}
	leaving.Wait()
	s.await("them to be lost", func(b *scoreboard.Snapshot) bool { return b.Lost >= many && b.Children[0].Running == 1 })
	stays.goesOn(true)
	b := s.await("rest", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running == 0 })
	jobs, addresses := map[uint64]bool{}, map[string]bool{}
	for _, l := range s.lost(many) {
		jobs[l.Job] = true
		if l.Proto == "tcp" {
			addresses[l.Foreign.String()] = true
		}
	}
	tcp := 0
	for _, c := range all {
		if !c.unix {
			tcp++
			if !addresses[c.conn.LocalAddr().String()] {
				t.Errorf("%v has not been told", c.conn.LocalAddr())
			}
		}
	}
	if n := len(s.lost(many)); n != many || len(jobs) != many || len(addresses) != tcp || b.Lost != many || b.Born != 1 {
		t.Errorf("told %d times of %d jobs and %d addresses; the scoreboard: %+v", n, len(jobs), len(addresses), b.Status)
	}
	for i := range many {
		if e := s.event("end", fmt.Sprint("job", i)); e.Text != "client gone" {
			t.Errorf("job %d ends: %s", i, e.Text)
		}
	}
}
