package daemon

import (
	"testing"
	"time"
)

func soaking(t *testing.T) (w *world, told *error) {
	l := testLimits()
	l.soak = 2 * time.Second
	w = worldOf(t, l).begin()
	w.pass(time.Hour)
	w.print = "two"
	told = new(error)
	*told = errPending
	w.step(evReload{cause: "test", reply: func(err error) { *told = err }})
	w.settle()
	want(t, "new ones serving", w.serving(2), 1)
	want(t, "old ones serving", w.serving(1), 3)
	return w, told
}

var errPending = errorString("nothing has been told yet")

type errorString string

func (e errorString) Error() string { return string(e) }

// B21: code whose children become ready and die a little later does not replace code that runs.
func TestSoakFails(t *testing.T) {
	w, told := soaking(t)
	w.pass(1900 * time.Millisecond)
	want(t, "told", *told, error(errPending))
	w.step(evExited{who: w.anyone(2), status: "exit status 3"})
	w.settle()
	if *told == nil || *told == errPending {
		t.Errorf("the reload is said to have ended with %v", *told)
	}
	want(t, "old generation", w.p.generation, 1)
	want(t, "old ones serving", w.serving(1), 3)
	want(t, "reload ok", w.p.status.ReloadOK, false)
	// It is known now: by itself the daemon does not try it again.
	born := w.p.status.Born
	w.step(evReload{cause: "file", auto: true})
	w.pass(time.Minute)
	want(t, "born", w.p.status.Born, born)
}

func TestSoakPasses(t *testing.T) {
	w, told := soaking(t)
	w.pass(2 * time.Second)
	want(t, "told", *told, nil)
	want(t, "new ones serving", w.serving(2), 3)
	want(t, "old ones serving", w.serving(1), 0)
}

// One that somebody kills is no fault of the code, unless it happens again and again.
func TestSoakKilledFromOutside(t *testing.T) {
	w, told := soaking(t)
	w.pass(time.Second)
	w.step(evExited{who: w.anyone(2), status: "signal: killed"})
	w.settle()
	want(t, "another one serving", w.serving(2), 1)
	w.pass(1900 * time.Millisecond)
	want(t, "told before it has served its time", *told, error(errPending))
	w.pass(time.Second)
	want(t, "told", *told, nil)
	want(t, "new ones serving", w.serving(2), 3)

	w, told = soaking(t)
	for range maxRollFailures {
		w.step(evExited{who: w.anyone(2), status: "signal: killed"})
		w.settle()
	}
	if *told == nil || *told == errPending {
		t.Errorf("the reload is said to have ended with %v", *told)
	}
	want(t, "old ones serving", w.serving(1), 3)
}

// One that ends because its client has left, or because it has done as many jobs as it may, is followed by another one,
// and the probation goes on.
func TestSoakEndsWithWork(t *testing.T) {
	w, told := soaking(t)
	x := w.anyone(2)
	w.step(evGone{x, Disconnect{Job: 1}})
	w.step(evVerdict{x, Disconnect{Job: 1}, Kill})
	w.step(evSettled{x, 1, true})
	w.step(evExited{who: x, status: "exit status 0"})
	w.settle()
	for range 5 {
		want(t, "told", *told, error(errPending))
		want(t, "another one serving", w.serving(2), 1)
		want(t, "old ones serving", w.serving(1), 3)
		w.pass(300 * time.Millisecond)
		w.step(evSpent{w.anyone(2), "has done as many jobs as it may"})
		w.settle()
	}
	w.pass(500 * time.Millisecond)
	want(t, "told", *told, nil)
	want(t, "new ones serving", w.serving(2), 3)
	want(t, "old ones serving", w.serving(1), 0)
	// What dies is dying all the same.
	w, told = soaking(t)
	w.step(evSpent{w.anyone(2), "was sent SIGTERM"})
	w.settle()
	w.step(evExited{who: w.anyone(2), status: "exit status 3"})
	if *told == nil || *told == errPending {
		t.Errorf("the reload is said to have ended with %v", *told)
	}
}

// Who is killed from outside before it is ready is no fault of the code either.
func TestCandidateKilledFromOutside(t *testing.T) {
	l := testLimits()
	w := worldOf(t, l).begin()
	w.pass(time.Hour)
	w.print = "two"
	told := error(errPending)
	w.step(evReload{cause: "test", reply: func(err error) { told = err }})
	for len(w.p.inOrder(2, phaseStarting)) == 0 {
		w.one()
	}
	w.step(evExited{who: w.p.inOrder(2, phaseStarting)[0].who, status: "signal: killed"})
	w.settle()
	want(t, "told", told, nil)
	want(t, "new ones serving", w.serving(2), 3)
}
