package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// short lets every server leave as soon as it is ready: each does one job, and there is always one waiting.
func (w *world) short(t *testing.T, enough func() bool) {
	t.Helper()
	for range 2000 {
		for _, m := range w.p.servers(0, phaseServing) {
			w.step(evSpent{m.who, "has done as many jobs as it may"})
		}
		if enough() {
			return
		}
		if !w.one() {
			w.pass(time.Millisecond)
		}
	}
	t.Fatalf("no end: %s, %d serve", w.p.status.State, w.serving(0))
}

// A daemon whose children live for one job each is up when as many have been ready as are wanted, even if they never all
// serve at the same moment; and it can be reloaded.
func TestShortLivedChildren(t *testing.T) {
	w := newWorld(t)
	w.step(evStart{})
	w.short(t, func() bool { return w.up })
	for i := range 3 {
		w.print = fmt.Sprint("build", i)
		told := error(errPending)
		w.step(evReload{cause: "test", reply: func(err error) { told = err }})
		w.short(t, func() bool { return told != errPending })
		want(t, "told", told, nil)
		want(t, "generation", w.p.generation, uint64(i+2))
		want(t, "old ones serving", w.serving(uint64(i+1)), 0)
	}
}

// Children that die right after they were ready are no start.
func TestStartWithDyingChildren(t *testing.T) {
	w := newWorld(t)
	w.step(evStart{})
	for range 100 {
		for _, m := range w.p.servers(0, phaseServing) {
			w.step(evExited{who: m.who, status: "exit status 3"})
		}
		if w.done || !w.one() {
			break
		}
	}
	want(t, "up", w.up, false)
	if !w.done || w.doneErr == nil {
		t.Errorf("done %v with %v", w.done, w.doneErr)
	}
}

// reloadingOneByOne is a world of eight children in which a reload has begun, one start at a time.
func reloadingOneByOne(t *testing.T, told *error) *world {
	l := testLimits()
	l.prefork, l.maxChildren, l.slots, l.parallel = 8, 8, 40, 1
	w := worldOf(t, l).begin()
	w.pass(time.Hour)
	w.print = "two"
	w.step(evReload{cause: "test", reply: func(err error) { *told = err }})
	return w
}

// Code whose children die some seconds after they were ready, later than the probation, is given up all the same while
// the reload goes on, and nobody who served before is missing afterwards.
func TestReloadOfDyingCode(t *testing.T) {
	told := error(errPending)
	w := reloadingOneByOne(t, &told)
	least := 8
	for range 2000 {
		if told != errPending {
			break
		}
		w.now = w.now.Add(100 * time.Millisecond)
		w.look()
		for _, m := range w.p.servers(2, phaseServing) { // three seconds each
			if w.now.Sub(m.readyAt) >= 3*time.Second {
				w.step(evExited{who: m.who, status: "exit status 1"})
			}
		}
		if w.now.UnixMilli()%1000 == 0 { // a start takes a second
			w.one()
		}
		least = min(least, w.serving(0))
	}
	if told == nil || told == errPending {
		t.Fatalf("the reload has ended with %v", told)
	}
	if least < 8-maxRollFailures {
		t.Errorf("at one time only %d of 8 served", least)
	}
	w.pass(time.Minute)
	want(t, "old generation", w.p.generation, uint64(1))
	want(t, "old ones serving", w.serving(1), 8)
	want(t, "new ones serving", w.serving(2), 0)
	want(t, "state", w.p.status.State, "serving")
}

// A reload that fails when most of the old children have left keeps those of the new code until the old ones are back.
func TestRetreat(t *testing.T) {
	told := error(errPending)
	w := reloadingOneByOne(t, &told)
	for w.serving(2) < 6 {
		if !w.one() {
			t.Fatal("the reload does not go on")
		}
	}
	for range maxRollFailures { // three of them die in one moment
		w.step(evExited{who: w.anyone(2), status: "exit status 1"})
	}
	if told == nil || told == errPending {
		t.Fatalf("the reload has ended with %v", told)
	}
	have := w.serving(0)
	want(t, "serving when it is given up", have, 8-maxRollFailures)
	for w.one() {
		if n := w.serving(0); n < have {
			t.Fatalf("%d serve, and %d did before", n, have)
		} else {
			have = n
		}
		if n := w.p.count(0, phaseServing) - 8; n > 0 {
			t.Fatalf("%d too many serve", n)
		}
	}
	w.pass(time.Minute)
	want(t, "old ones serving", w.serving(1), 8)
	want(t, "new ones", w.p.count(2, phaseStarting, phaseServing, scoreboard.PhaseDraining), 0)
}

// What a hostile child can make the parent remember has a bound.
func TestRevocationsAreBounded(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	for job := range uint64(10 * mostLost) {
		w.step(evOvertime{x, job + 1})
		if m := w.p.find(x); m == nil || m.phase == scoreboard.PhaseKilling {
			break
		}
	}
	want(t, "killed", len(w.killed), 1)

	w = newWorld(t).begin()
	x = w.anyone(1)
	for job := range uint64(200 * mostLost) {
		w.step(evGone{x, Disconnect{Job: job + 1}})
	}
	if n := len(w.p.find(x).lost); n > 64*mostLost {
		t.Errorf("%d lost clients are remembered", n)
	}
}
