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
	w.pass(1900 * time.Millisecond)
	want(t, "new ones serving", w.serving(2), 1)
	want(t, "state", w.p.status.State, "reloading")
	w.pass(100 * time.Millisecond)
	want(t, "new ones serving", w.serving(2), 3)
	want(t, "old ones serving", w.serving(1), 0)
	want(t, "told", *told, nil)
	want(t, "state", w.p.status.State, "serving")
	want(t, "programs that are kept", len(w.pinned), 1)
}

// A job that is done is all the proof that is waited for.
func TestSoakEndsWithFirstJob(t *testing.T) {
	w, told := soaking(t)
	w.step(evProven{w.anyone(1)}) // of the old generation
	w.settle()
	want(t, "new ones serving", w.serving(2), 1)
	w.step(evProven{w.anyone(2)})
	w.settle()
	want(t, "new ones serving", w.serving(2), 3)
	want(t, "old ones serving", w.serving(1), 0)
	w.pass(1900 * time.Millisecond)
	want(t, "told before the probation is over", *told, error(errPending))
	w.pass(100 * time.Millisecond)
	want(t, "told", *told, nil)
}

// B21: code that does its first jobs and dies soon after all of it serves goes back to the old program.
func TestSettlingFails(t *testing.T) {
	w, told := soaking(t)
	w.step(evProven{w.anyone(2)})
	w.settle()
	want(t, "generation", w.p.generation, 2)
	for range maxRollFailures {
		want(t, "told", *told, error(errPending))
		if n := w.serving(2); n < 2 {
			t.Errorf("%d new ones serve", n)
		}
		w.pass(400 * time.Millisecond)
		w.step(evExited{who: w.anyone(2), status: "exit status 3"})
		w.pass(100 * time.Millisecond)
	}
	if *told == nil || *told == errPending {
		t.Errorf("the reload is said to have ended with %v", *told)
	}
	want(t, "generation", w.p.generation, 1)
	want(t, "old ones serving", w.serving(1), 3)
	want(t, "new ones serving", w.serving(2), 0)
	want(t, "reload ok", w.p.status.ReloadOK, false)
	want(t, "bad", w.p.bad, "two")
	w.pass(time.Minute)
	want(t, "programs that are kept", len(w.pinned), 1)
	want(t, "state", w.p.status.State, "serving")
}

// What dies of a signal from outside while the new generation settles says nothing about its code.
func TestSettlingKilledFromOutside(t *testing.T) {
	w, told := soaking(t)
	w.step(evProven{w.anyone(2)})
	w.settle()
	for range 5 {
		w.step(evExited{who: w.anyone(2), status: "signal: killed"})
		w.settle()
	}
	w.pass(2 * time.Second)
	want(t, "told", *told, nil)
	want(t, "new ones serving", w.serving(2), 3)
}

// New jobs go to the new code as soon as there is somebody who runs it.
func TestSoakYields(t *testing.T) {
	w, _ := soaking(t)
	n := 0
	for _, what := range w.told {
		if what == "Y" {
			n++
		}
	}
	want(t, "old children that stand behind", n, 3)
}

// A tenth of the children is replaced at once, and never fewer serve than are wanted.
func TestRollSteps(t *testing.T) {
	l := testLimits()
	l.prefork, l.maxChildren, l.slots, l.parallel, l.maxDrainingChildren = 30, 30, 200, 100, 100
	w := worldOf(t, l).begin()
	w.print = "two"
	w.step(evReload{cause: "test"})
	for most := 0; ; {
		n := w.p.count(2, phaseStarting)
		if most = max(most, n); n > 3 {
			t.Fatalf("%d children start at once", n)
		}
		if n := w.serving(0); n < 30 || n > 33 {
			t.Fatalf("%d children serve", n)
		}
		if w.serving(2) == 30 {
			want(t, "most at once", most, 3)
			return
		}
		if !w.one() {
			t.Fatalf("stuck with %d", w.serving(2))
		}
	}
}

// Reloads keep their distance.
func TestMinReloadInterval(t *testing.T) {
	l := testLimits()
	l.minReloadInterval = time.Minute
	w := worldOf(t, l).begin()
	reload := func() { w.step(evReload{cause: "test"}); w.settle() }
	reload()
	want(t, "generation", w.p.generation, 2)
	reload()
	reload()
	w.pass(59 * time.Second)
	want(t, "generation", w.p.generation, 2)
	w.pass(time.Second)
	want(t, "generation", w.p.generation, 3)
	w.pass(time.Hour)
	want(t, "generation of the wishes that were joined", w.p.generation, 4)
}

// One that somebody kills is no fault of the code, unless it happens again and again.
func TestSoakKilledFromOutside(t *testing.T) {
	w, told := soaking(t)
	w.pass(time.Second)
	w.step(evExited{who: w.anyone(2), status: "signal: killed"})
	w.settle()
	want(t, "another one serving", w.serving(2), 1)
	w.pass(1900 * time.Millisecond)
	want(t, "new ones serving before the first has served its time", w.serving(2), 1)
	w.pass(time.Second)
	want(t, "new ones serving", w.serving(2), 3)
	want(t, "told", *told, nil)

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
	want(t, "new ones serving", w.serving(2), 3)
	want(t, "old ones serving", w.serving(1), 0)
	want(t, "told", *told, nil)
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
