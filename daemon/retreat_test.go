package daemon

import (
	"testing"
	"time"
)

// B21: a second bad build comes while the children of the first one still stand in for the old ones that are to come back.
// When it is given up, too, all of both have to leave.
func TestTwoRetreats(t *testing.T) {
	l := testLimits()
	l.prefork, l.maxChildren, l.slots, l.maxDrainingChildren, l.soak = 30, 30, 200, 100, 2*time.Second
	w := worldOf(t, l).begin()
	w.pass(time.Hour)
	// fails lets a generation come up and then die.
	fails := func(generation uint64, serving int) {
		w.print = string(rune('a' + generation))
		w.step(evReload{cause: "test"})
		for w.serving(generation) == 0 && w.one() {
		}
		w.step(evProven{w.anyone(generation)})
		for w.serving(generation) < serving && w.one() {
		}
		for range maxRollFailures {
			w.step(evExited{who: w.anyone(generation), status: "exit status 3"})
		}
		want(t, "generation", w.p.generation, 1)
	}
	fails(2, 25)
	if w.serving(2) == 0 {
		t.Fatal("none of the first bad build stands in for the old ones")
	}
	fails(3, 4)
	w.settle()
	w.pass(time.Minute)
	want(t, "old ones serving", w.serving(1), 30)
	want(t, "of the first bad build", len(w.p.inOrder(2, phaseStarting, phaseServing)), 0)
	want(t, "of the second bad build", len(w.p.inOrder(3, phaseStarting, phaseServing)), 0)
	want(t, "state", w.p.status.State, "serving")
	want(t, "programs that are kept", len(w.pinned), 1)
}

// B21: a pool of one or two children has a probation, too.
func TestSettlingFailsInSmallPool(t *testing.T) {
	for _, children := range []int{1, 2} {
		for _, life := range []time.Duration{100 * time.Millisecond, 900 * time.Millisecond, 1500 * time.Millisecond} {
			l := testLimits()
			l.prefork, l.soak = children, 2*time.Second
			w := worldOf(t, l).begin()
			w.pass(time.Hour)
			w.print = "two"
			told := error(errPending)
			w.step(evReload{cause: "test", reply: func(err error) { told = err }})
			w.settle()
			w.step(evProven{w.anyone(2)})
			w.settle()
			want(t, "generation", w.p.generation, 2)
			for end := w.now.Add(10 * time.Second); w.now.Before(end) && w.p.generation == 2; {
				w.pass(10 * time.Millisecond)
				for _, m := range w.p.servers(2, phaseServing) {
					if w.now.Sub(m.readyAt) >= life {
						w.step(evExited{who: m.who, status: "exit status 3"})
						w.settle()
					}
				}
			}
			if told == nil {
				t.Errorf("%d children that live for %v: the reload is said to have succeeded", children, life)
			}
			w.pass(time.Second)
			want(t, "old ones serving", w.serving(1), children)
		}
	}
}
