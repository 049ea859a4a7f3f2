package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/brooddaemon/brood/internal/control"
)

// A child with nothing to do that gives no sign of life is ended. A busy one is not.
func TestHung(t *testing.T) {
	l := testLimits()
	l.hungAfter = 30 * time.Second
	w := worldOf(t, l).begin()
	w.pass(10 * time.Minute)
	want(t, "killed of those who answer", len(w.killed), 0)
	want(t, "pings", slices.Contains(w.told, string(rune(control.Ping))), true)
	deaf, busy := w.anyone(1), w.p.servers(1, phaseServing)[1].who
	w.alive[deaf].deaf = true
	w.alive[busy].deaf, w.alive[busy].busy = true, true
	w.pass(time.Minute)
	want(t, "killed", len(w.killed), 1)
	if len(w.killed) > 0 {
		want(t, "who", w.killed[0], deaf)
	}
	want(t, "serving", w.serving(1), 3)
	w.alive[busy].busy = false
	w.pass(time.Minute)
	want(t, "killed when it is idle", len(w.killed), 2)
}

// B53: who has slept through everybody's deadlines does not take it out on them.
func TestStalled(t *testing.T) {
	l := testLimits()
	l.hungAfter = 30 * time.Second
	w := worldOf(t, l).begin()
	w.pass(20 * time.Second) // asked for a sign
	// One starts, one drains, one is about to be killed.
	w.alive[w.anyone(1)].busy = true
	w.step(evSpent{w.anyone(1), "test"})
	x := w.p.servers(1, phaseServing)[1].who
	w.alive[x].busy = true
	w.step(evGone{x, Disconnect{Job: 1}})
	w.step(evVerdict{x, Disconnect{Job: 1}, Kill})
	w.frozen = true
	w.now = w.now.Add(10 * time.Hour)
	w.step(evStalled{10 * time.Hour})
	w.look()
	want(t, "killed", len(w.killed), 0)
	// What was running out then goes on running out now.
	asked := false
	for range 30 {
		w.now = w.now.Add(time.Second)
		for _, a := range w.p.step(w.now, evTick{}) {
			_, is := a.(actKillJob)
			asked = asked || is
		}
	}
	want(t, "the revoked job's turn comes", asked, true)
}
