package daemon_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/brooddaemon/brood/scoreboard"
)

// skipped is how many clients had left before they were accepted.
func skipped(b *scoreboard.Snapshot) int {
	n := b.Skipped
	for _, c := range b.Children {
		n += c.Skipped
	}
	return int(n)
}

// Clients who leave while they wait in the queue are counted, each once, and no job runs for them; unless a FIN does not
// mean that they have left. Who waits behind them is served.
func TestGoneQueue(t *testing.T) {
	// Of each way to leave, on TCP and on a Unix socket, whether such a client is skipped.
	type skip struct{ tcp, unix bool }
	for _, c := range []struct {
		scenario, concurrency string
		env                   []string
		skips                 map[string]skip
	}{
		{lines, "1", nil, map[string]skip{"FIN": {true, true}, "RST": {true, true}, "half": {true, true}}},
		{raw, "1", nil, map[string]skip{"FIN": {true, true}, "RST": {true, true}, "half": {true, true}}},
		{raw, "4", nil, map[string]skip{"FIN": {true, true}, "RST": {true, true}, "half": {true, true}}},
		{web, "1", nil, map[string]skip{"FIN": {true, true}, "RST": {true, true}, "half": {true, true}}},
		{lines, "1", []string{"BROOD_HALF_CLOSE=ignore"}, map[string]skip{"FIN": {}, "RST": {true, false}, "half": {}}},
		{web, "1", []string{"BROOD_HALF_CLOSE=ignore"}, map[string]skip{"FIN": {}, "RST": {true, false}, "half": {}}},
		{lines, "1", []string{"CONFIRM=no"}, map[string]skip{"FIN": {false, true}, "RST": {true, true}, "half": {}}},
	} {
		t.Run(c.scenario+" "+c.concurrency+strings.Join(c.env, " "), func(t *testing.T) {
			t.Parallel()
			s := start(t, c.scenario, append(c.env, "BROOD_PREFORK=1", "BROOD_MAX_CHILDREN=1", "BROOD_CONCURRENCY="+c.concurrency, "POLICY=ignore")...)
			begin := func(network, id string) func(w way) {
				conn := s.dial(network)
				if c.scenario == lines {
					say(t, conn, "gate "+id)
				} else {
					request(t, conn, "GET", "/hold?gate=1&id="+id, "", "Connection: close")
				}
				return func(w way) { w.leave(t, conn) }
			}
			var busy []string
			for i := range c.concurrency[0] - '0' {
				busy = append(busy, fmt.Sprint("busy", i))
				begin("tcp4", busy[i])
				s.event("begin", busy[i])
			}
			left, served := 0, []string{}
			for _, network := range networks() {
				for _, w := range ways {
					for i := range 10 {
						id := fmt.Sprint(network, w.name, i)
						s.open(id)
						begin(network, id)(w)
						is := c.skips[w.name]
						if network == "unix" && is.unix || network != "unix" && is.tcp {
							left++
						} else {
							served = append(served, id)
						}
					}
				}
			}
			// Who is served may be so before his FIN is; who is not has nobody to wait for.
			s.open("last")
			begin("tcp4", "last")
			for _, id := range busy {
				s.open(id)
			}
			s.event("end", "last")
			served = append(served, append(busy, "last")...)
			for _, id := range served {
				s.event("end", id)
			}
			b := s.await("all of them", func(b *scoreboard.Snapshot) bool { return skipped(b) == left && b.Children[0].Running == 0 })
			var begun []string
			for _, e := range s.eventsOf("begin", "") {
				begun = append(begun, e.ID)
			}
			slices.Sort(begun)
			slices.Sort(served)
			if !slices.Equal(begun, served) {
				t.Errorf("jobs have run for %q, want %q", begun, served)
			}
			if b.Born != 1 || b.Died+b.Killed > 0 {
				t.Errorf("the scoreboard: %+v", b.Status)
			}
		})
	}
}

// The count outlives the child.
func TestGoneQueueCount(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1", "BROOD_MAX_CHILDREN=1")
	busy := s.dial("tcp4")
	pid, _ := askWho(t, busy, "gate busy")
	for range 7 {
		s.dial("tcp4").Close()
	}
	s.open("busy")
	s.await("them", func(b *scoreboard.Snapshot) bool { return skipped(b) == 7 })
	s.reload()
	// Its slot is free a moment before the parent's own count is written.
	b := s.await("the old child to leave and to be counted", func(b *scoreboard.Snapshot) bool { return s.left(b, pid) && b.Skipped > 0 })
	if b.Skipped != 7 || skipped(b) != 7 {
		t.Errorf("%d and %d were skipped", b.Skipped, skipped(b))
	}
}
