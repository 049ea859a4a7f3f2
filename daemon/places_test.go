package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/brooddaemon/brood/internal/control"
)

// checkQueues reports a queue on which nobody waits though there are children who could, and children who have more than one
// while another one has none.
func checkQueues(t interface{ Fatalf(string, ...any) }, w *world) {
	if w.p.queues == 0 {
		return
	}
	waiting := map[string]int{}
	var serving []string
	most := 0
	for _, m := range w.p.servers(0, phaseServing) {
		if m.paused {
			continue
		}
		queues := w.alive[m.who].queues
		serving = append(serving, fmt.Sprint(m.who, queues, m.beside))
		for _, q := range queues {
			waiting[q]++
		}
		if !m.beside {
			most = max(most, len(queues))
		}
		if len(queues) == 0 {
			t.Fatalf("child %v waits on no queue: %v", m.who, serving)
		}
	}
	if len(serving) > 0 && len(waiting) < w.p.queues {
		t.Fatalf("somebody waits on %v, and there are %d queues: %v", waiting, w.p.queues, serving)
	}
	if len(serving) >= w.p.queues && most > 1 {
		t.Fatalf("a child has %d queues though there are enough of them: %v", most, serving)
	}
}

// B24: whoever is missing, somebody waits on each queue.
func TestQueues(t *testing.T) {
	l := testLimits()
	l.queues = l.prefork
	w := worldOf(t, l)
	w.step(evStart{})
	w.settle()
	checkQueues(t, w)
	who := func(i int) who { return w.p.servers(0, phaseServing)[i].who }
	queues := func(i int) string { return strings.Join(w.alive[who(i)].queues, " ") }
	if got := []string{queues(0), queues(1), queues(2)}; len(slices.Compact(slices.Sorted(slices.Values(got)))) != 3 {
		t.Fatalf("the children wait on %q", got)
	}
	first, second, third := who(0), who(1), who(2)
	w.step(evPaused{first, true})
	if n := len(w.alive[second].queues) + len(w.alive[third].queues); n != 3 {
		t.Errorf("while the first one pauses the others wait on %d queues", n)
	}
	w.step(evPaused{first, false})
	w.frozen = true // nobody comes to take his place
	w.step(evExited{who: second, status: "signal: killed"})
	checkQueues(t, w)
	if len(w.alive[first].queues)+len(w.alive[third].queues) != 3 {
		t.Errorf("%q and %q share the queues", w.alive[first].queues, w.alive[third].queues)
	}
	w.frozen = false
	w.settle()
	checkQueues(t, w)
	told := slices.Index(w.told, string(rune(control.Queues)))
	if told < 0 {
		t.Error("nobody was told")
	}
	// One that is there beyond the others waits on all of them.
	w.print = "next"
	w.step(evReload{cause: "test"})
	for range 100 {
		w.one()
		if w.p.roll != nil && w.p.roll.stage == rollSoak {
			break
		}
	}
	if w.p.roll == nil || w.p.roll.stage != rollSoak {
		t.Skip("the reload was too fast to be seen")
	}
	checkQueues(t, w)
}

// With queues of their own there are as many children as queues, until somebody starts the daemon anew.
func TestQueuesAreFixed(t *testing.T) {
	l := testLimits()
	l.queues = l.prefork
	w := worldOf(t, l)
	w.step(evStart{})
	w.settle()
	for _, ev := range []evScale{{n: 1, relative: true}, {n: -1, relative: true}, {n: 5}} {
		var err error
		ev.reply = func(e error) { err = e }
		w.step(ev)
		if err == nil || !strings.Contains(err.Error(), "there are 3 queues") {
			t.Errorf("scale %+d: %v", ev.n, err)
		}
	}
	answered, err := false, error(nil)
	w.step(evDrain{})
	w.settle()
	w.step(evScale{n: 3, reply: func(e error) { answered, err = true, e }})
	w.settle()
	if !answered || err != nil {
		t.Errorf("children do not come back from a drain: %v, %v", answered, err)
	}
	checkQueues(t, w)
}
