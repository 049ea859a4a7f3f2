package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

func queued(t *testing.T) *world {
	l := testLimits()
	l.dequeueMax, l.dequeueEvery = 2, time.Minute
	return worldOf(t, l).begin()
}

func (w *world) queues(generation uint64, phases ...phase) (ms []*member) {
	return slices.DeleteFunc(w.p.inOrder(generation, phases...), func(m *member) bool { return m.kind != scoreboard.Dequeue })
}

// Children with a queue of their own stand beside those that serve.
func TestDequeue(t *testing.T) {
	w := queued(t)
	want(t, "serving", w.serving(1), 3)
	want(t, "wanted", w.p.target, 3)
	ms := w.queues(1, phaseServing)
	want(t, "with a queue", len(ms), 2)
	for _, m := range ms {
		w.step(evExited{who: m.who, status: "exit status 0"})
	}
	w.settle()
	want(t, "with a queue, when they have done their work", len(w.queues(1, phaseServing)), 0)
	want(t, "died", w.p.status.Died, 0)
	w.pass(59 * time.Second)
	want(t, "with a queue before the time", len(w.queues(1, phaseServing)), 0)
	w.pass(time.Second)
	want(t, "with a queue, again", len(w.queues(1, phaseServing)), 2)
	// As many are started as are missing.
	w.step(evExited{who: w.queues(1, phaseServing)[0].who, status: "exit status 0"})
	w.pass(time.Minute)
	want(t, "with a queue, made up", len(w.queues(1, phaseServing)), 2)
	want(t, "serving", w.serving(1), 3)
}

// Who fails again and again is tried less often, keeps nobody from serving, and does not end the daemon.
func TestDequeueFails(t *testing.T) {
	l := testLimits()
	l.dequeueMax, l.dequeueEvery = 1, 100*time.Millisecond
	w := worldOf(t, l).begin()
	born := w.p.status.Born
	for end := w.now.Add(10 * time.Minute); w.now.Before(end); {
		for _, m := range w.queues(1, phaseServing) {
			w.step(evExited{who: m.who, status: "exit status 1"})
		}
		w.pass(100 * time.Millisecond)
	}
	if n := w.p.status.Born - born; n < 10 || n > 60 {
		t.Errorf("%d starts in ten minutes of failing", n)
	}
	want(t, "serving", w.serving(1), 3)
	want(t, "done", w.done, false)
	for range 3 { // it works again
		w.pass(time.Minute)
		for _, m := range w.queues(1, phaseServing) {
			w.step(evExited{who: m.who, status: "exit status 0"})
		}
	}
	w.pass(time.Second)
	want(t, "with a queue", len(w.queues(1, phaseServing)), 1)
}

// A reload replaces them, too, and a stop waits for them.
func TestDequeueReload(t *testing.T) {
	w := queued(t)
	for _, m := range w.queues(1, phaseServing) {
		w.alive[m.who].busy = true
	}
	w.print = "two"
	w.step(evReload{cause: "test"})
	w.settle()
	want(t, "generation", w.p.generation, 2)
	want(t, "old ones that finish", len(w.queues(1, scoreboard.PhaseDraining)), 2)
	want(t, "new ones before the old ones have finished", len(w.queues(2, phaseServing)), 0)
	w.alive[w.queues(1, scoreboard.PhaseDraining)[0].who].busy = false
	w.settle()
	want(t, "new ones", len(w.queues(2, phaseServing)), 1)
	w.step(evStop{stopDrain, "test"})
	w.settle()
	want(t, "done while some are busy", w.done, false)
	for _, m := range w.queues(1, scoreboard.PhaseDraining) {
		w.alive[m.who].busy = false
	}
	w.settle()
	want(t, "done", w.done, true)
}
