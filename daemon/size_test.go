package daemon

import (
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// look is the parent's look at the board.
func (w *world) look() {
	var all []seen
	for x, k := range w.alive {
		if k.ready {
			all = append(all, seen{who: x, busy: k.busy, done: k.done})
		}
	}
	w.step(evCensus{all})
}

// work makes n idle children busy and returns how many there were.
func (w *world) work(n int) int {
	did := 0
	for _, m := range w.p.servers(0, scoreboard.PhaseServing) {
		if k := w.alive[m.who]; !k.busy && !k.draining && did < n {
			k.busy, did = true, did+1
			k.done++
		}
	}
	return did
}

func (w *world) rest() {
	for _, k := range w.alive {
		k.busy = false
	}
}

func dynamic(mode Pool) limits {
	l := testLimits()
	l.mode, l.maxChildren, l.slots = mode, 50, 200
	return l
}

// The pool doubles its steps, stops at its cap, and comes back when it has been idle for long enough.
func TestPoolGrowsAndShrinks(t *testing.T) {
	w := worldOf(t, dynamic(Dynamic)).begin()
	var sizes []int
	for left := 40; left > 0; {
		left -= w.work(left)
		w.look()
		w.settle()
		sizes = append(sizes, w.serving(1))
	}
	for i, want := range []int{4, 6, 10, 18, 34} {
		if sizes[i] != want {
			t.Fatalf("sizes are %v", sizes)
		}
	}
	w.work(50)
	w.look()
	w.settle()
	want(t, "cap", w.serving(1), 50)
	w.rest()
	w.look()
	for range 3600 { // an hour of looks
		w.pass(time.Second)
		w.look()
		w.settle()
	}
	want(t, "size after an idle hour", w.serving(1), 3)
	want(t, "killed", len(w.killed), 0)
}

// B18: children that are slow to start are no reason to start more.
func TestPoolCountsStartingChildren(t *testing.T) {
	w := worldOf(t, dynamic(Dynamic)).begin()
	w.frozen = true
	w.work(3)
	for range 100 {
		w.look()
		w.settle()
		w.now = w.now.Add(50 * time.Millisecond)
	}
	want(t, "starting", w.p.count(1, scoreboard.PhaseStarting), 1)
}

// B27: a child that has just got work refuses to leave, and keeps its place.
func TestPoolAsksBusyChild(t *testing.T) {
	w := worldOf(t, dynamic(Dynamic)).begin()
	w.work(3)
	w.look()
	w.settle()
	w.rest()
	w.look()
	want(t, "children", w.serving(1), 4)
	for range 120 {
		w.pass(time.Second)
		w.work(4) // between the look and the question
		w.rest2()
	}
	want(t, "children", w.serving(1), 4)
	want(t, "target", w.p.target, 4)
}

// rest2 has everybody busy when asked, and idle for the next look.
func (w *world) rest2() {
	for _, k := range w.alive {
		k.busy = true
	}
	w.step(evTick{})
	w.settle()
	w.rest()
	w.look()
}

func TestPoolScale(t *testing.T) {
	for _, mode := range []Pool{Static, Dynamic} {
		t.Run(string(mode), func(t *testing.T) {
			w := worldOf(t, dynamic(mode)).begin()
			w.pass(time.Minute)
			var got []error
			reply := func(err error) { got = append(got, err) }
			w.step(evScale{n: 2, relative: true, reply: reply})
			want(t, "answers before they serve", len(got), 0)
			w.settle()
			want(t, "after +2", w.serving(1), 5)
			w.step(evScale{n: 10, reply: reply})
			w.settle()
			want(t, "after 10", w.serving(1), 10)
			w.look()
			w.step(evScale{n: -6, relative: true, reply: reply})
			w.settle()
			want(t, "after -6", w.serving(1), 4)
			want(t, "answers", len(got), 3)
			for _, n := range []int{0, -1, 51} {
				w.step(evScale{n: n, reply: reply})
				if got[len(got)-1] == nil {
					t.Errorf("scaling to %d is possible", n)
				}
			}
			w.settle()
			want(t, "children", w.serving(1), 4)
		})
	}
}

func TestPoolOnDemand(t *testing.T) {
	w := worldOf(t, dynamic(OnDemand)).begin()
	want(t, "up", w.up, true)
	want(t, "children", w.serving(1), 0)
	want(t, "armed", w.armed, true)
	w.armed = false
	w.step(evKnock{})
	w.settle()
	want(t, "children after a knock", w.serving(1), 1)
	want(t, "armed while one is idle", w.armed, false)
	w.work(1)
	w.look()
	want(t, "armed when nobody is idle", w.armed, true)
	w.rest()
	for range 90 {
		w.look()
		w.pass(time.Second)
	}
	want(t, "children after the idle time", w.serving(1), 0)
	want(t, "armed again", w.armed, true)
}

// A reload of a pool without children still tries the program.
func TestPoolOnDemandReload(t *testing.T) {
	w := worldOf(t, dynamic(OnDemand)).begin()
	w.print, w.broken["two"] = "two", true
	var got error
	w.step(evReload{cause: "test", reply: func(err error) { got = err }})
	w.settle()
	if got == nil {
		t.Error("a broken program was taken")
	}
	want(t, "generation", w.p.generation, 1)
	w.broken["two"] = false
	w.step(evReload{cause: "test"})
	w.settle()
	want(t, "ok", w.p.status.ReloadOK, true)
}

// A child that has served its time is replaced at the moment it is asked to leave, and keeps its jobs.
func TestPoolReplacesTheOld(t *testing.T) {
	l := dynamic(Static)
	l.maxAge, l.drainTimeout = time.Hour, time.Hour
	w := worldOf(t, l).begin()
	w.work(3)
	w.pass(54*time.Minute - 1) // a tenth less at the most
	want(t, "born", w.p.status.Born, 3)
	w.pass(7 * time.Minute)
	want(t, "serving", w.serving(1), 3)
	want(t, "finishing", w.p.count(1, scoreboard.PhaseDraining), 3)
	want(t, "killed", len(w.killed), 0)

	w = worldOf(t, dynamic(Static)).begin()
	x := w.anyone(1)
	w.step(evSpent{x, "test"})
	w.step(evSpent{x, "test"})
	w.settle()
	want(t, "born", w.p.status.Born, 4)
	want(t, "serving", w.serving(1), 3)
}

// Other settings move the pool to where it would be if it had begun with them, but for a floor that somebody has moved.
func TestPoolAdopts(t *testing.T) {
	for _, mode := range []Pool{Static, Dynamic} {
		t.Run(string(mode), func(t *testing.T) {
			w := worldOf(t, dynamic(mode)).begin()
			set := func(change func(l *limits)) {
				l := w.p.limits
				change(&l)
				w.step(evLimits{l})
				w.settle()
			}
			set(func(l *limits) { l.prefork = 6 })
			want(t, "more", w.serving(1), 6)
			set(func(l *limits) { l.prefork = 2 })
			w.pass(5 * time.Minute)
			want(t, "less", w.p.floor, 2)
			want(t, "and they leave", w.serving(1) <= 3, true)
			w.step(evScale{n: 5})
			w.settle()
			set(func(l *limits) { l.prefork = 1 })
			want(t, "an operator's", w.serving(1), 5)
			set(func(l *limits) { l.maxChildren = 4 })
			w.look()
			w.pass(time.Minute)
			want(t, "more than there may be", w.serving(1) <= 4 && w.p.target <= 4, true)
			if n := w.serving(1); n < 1 {
				t.Errorf("%d are left", n)
			}
		})
	}

	// How long a child serves counts from its begin.
	w := newWorld(t).begin()
	w.pass(time.Minute)
	l := w.p.limits
	l.maxAge = 10 * time.Minute
	w.step(evLimits{l})
	born := w.p.life
	w.pass(7 * time.Minute)
	want(t, "children born before", w.p.life, born)
	w.pass(4 * time.Minute)
	want(t, "children born after", w.p.life, born+3)
	l.maxAge = 0
	w.step(evLimits{l})
	w.pass(time.Hour)
	want(t, "children born without a limit", w.p.life, born+3)
}
