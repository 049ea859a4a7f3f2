package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/brooddaemon/brood/internal/control"
)

// lose tells the pool that the client of a job has left and returns how often the policy was asked.
func lose(w *world, x who, job uint64) int {
	n := 0
	for _, a := range w.p.step(w.now, evGone{x, Disconnect{Job: job}}) {
		if p, ok := a.(actPolicy); ok {
			n++
			if p.d.PID != w.p.find(x).pid || p.d.Slot != x.slot {
				w.t.Fatalf("the policy is told of child %d in slot %d", p.d.PID, p.d.Slot)
			}
		}
	}
	return n
}

// actions returns what a step does, without logging.
func actions(w *world, ev event) []action {
	return slices.DeleteFunc(w.p.step(w.now, ev), func(a action) bool { _, log := a.(actLog); return log })
}

// B43: each lost client is told once, whoever sees it.
func TestGoneOnce(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	want(t, "first", lose(w, x, 7), 1)
	want(t, "second", lose(w, x, 7), 0)
	want(t, "another job", lose(w, x, 8), 1)
	want(t, "lost", w.p.status.Lost, 2)
	for i := range uint64(3000) { // memory is bounded
		w.now = w.now.Add(time.Second)
		lose(w, x, 100+i)
	}
	if n := len(w.p.find(x).lost); n > 1100 {
		t.Errorf("%d serials are remembered", n)
	}
}

func TestVerdictCancel(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	acts := actions(w, evVerdict{x, Disconnect{Job: 7}, Cancel})
	if len(acts) != 1 || acts[0] != (actTell{x, control.Message{Kind: control.Revoke, Serial: 7}}) {
		t.Errorf("got %+v", acts)
	}
	w.pass(time.Hour)
	want(t, "killed", len(w.killed), 0)
}

// Whatever the policy says, the child hears of it: it holds back the end of the job until then.
func TestVerdictIgnore(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	for _, a := range []Action{Ignore, Action(99)} {
		acts := actions(w, evVerdict{x, Disconnect{Job: 7}, a})
		if len(acts) != 1 || acts[0] != (actTell{x, control.Message{Kind: control.Clear, Serial: 7}}) {
			t.Errorf("got %+v", acts)
		}
	}
}

// B41: the revocation is written where the child looks before the child is told, and the kill asks for the job first.
func TestVerdictKill(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	acts := actions(w, evVerdict{x, Disconnect{Job: 7}, Kill})
	if len(acts) != 2 || acts[0] != (actRevoke{x, 7}) ||
		acts[1] != (actTell{x, control.Message{Kind: control.Revoke, Serial: 7, Kill: true}}) {
		t.Fatalf("got %+v", acts)
	}
	w.now = w.now.Add(2*time.Second - 1)
	if acts := actions(w, evTick{}); len(acts) != 0 {
		t.Fatalf("before the grace is over: %+v", acts)
	}
	w.now = w.now.Add(1)
	if acts := actions(w, evTick{}); len(acts) != 1 || acts[0] != (actKillJob{x, 7}) {
		t.Fatalf("when the grace is over: %+v", acts)
	}
	w.step(evOverdue{x, 6}) // an answer about another job
	want(t, "killed", len(w.killed), 0)
	w.step(evOverdue{x, 7})
	want(t, "killed", len(w.killed), 1)
	w.settle()
	want(t, "serving", w.serving(1), 3)
}

// A job that has come to its end saves its child.
func TestVerdictKillSettled(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	actions(w, evVerdict{x, Disconnect{Job: 7}, Kill})
	if acts := actions(w, evSettled{x, 6, false}); len(acts) != 0 {
		t.Errorf("another job's settlement: %+v", acts)
	}
	acts := actions(w, evSettled{x, 7, false})
	if len(acts) != 2 || acts[0] != (actRevoke{x, 0}) ||
		acts[1] != (actTell{x, control.Message{Kind: control.Clear, Serial: 7}}) {
		t.Fatalf("got %+v", acts)
	}
	w.pass(time.Hour)
	want(t, "killed", len(w.killed), 0)
}

// A child that leaves with its job is given the grace to do so, and is replaced.
func TestVerdictKillLeaving(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	w.alive[x].busy = true
	w.step(evVerdict{x, Disconnect{Job: 7}, Kill})
	w.step(evSettled{x, 7, true})
	w.settle()
	want(t, "serving", w.serving(1), 3)
	want(t, "killed", len(w.killed), 0)
	w.pass(3 * time.Second)
	want(t, "killed, as it did not leave", len(w.killed), 1)
}

// The slot may tell that the job is over before the child says that it leaves because of it. That is no death.
func TestVerdictKillLeavingLate(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	w.step(evVerdict{x, Disconnect{Job: 7}, Kill})
	w.step(evSettled{x, 7, false})
	w.step(evSettled{x, 7, true})
	w.step(evExited{who: x, status: "exit status 0"})
	w.settle()
	want(t, "died", w.p.status.Died, 0)
	want(t, "serving", w.serving(1), 3)
}

// With several jobs in one child the revocations are settled one after the other.
func TestVerdictKillTwice(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	actions(w, evVerdict{x, Disconnect{Job: 7}, Kill})
	if acts := actions(w, evVerdict{x, Disconnect{Job: 8}, Kill}); len(acts) != 0 {
		t.Fatalf("got %+v", acts)
	}
	acts := actions(w, evSettled{x, 7, false})
	if !slices.Contains(acts, action(actRevoke{x, 8})) {
		t.Fatalf("the second one is forgotten: %+v", acts)
	}
}

// A job whose time is over is cancelled, then its group gets SIGTERM, then SIGKILL; who says so twice is heard once.
func TestOvertime(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	acts := actions(w, evOvertime{x, 7})
	if len(acts) != 2 || acts[0] != (actRevoke{x, 7}) ||
		acts[1] != (actTell{x, control.Message{Kind: control.Revoke, Serial: 7, Kill: true}}) {
		t.Fatalf("got %+v", acts)
	}
	if acts := actions(w, evCensus{[]seen{{who: x, busy: true, overtime: 7}}}); len(acts) != 0 {
		t.Fatalf("the slot says it too: %+v", acts)
	}
	for _, last := range []action{actTerm{x}, nil} {
		w.now = w.now.Add(2 * time.Second)
		if acts := actions(w, evTick{}); len(acts) != 1 || acts[0] != (actKillJob{x, 7}) {
			t.Fatalf("when the grace is over: %+v", acts)
		}
		acts := actions(w, evOverdue{x, 7})
		if last != nil && (len(acts) != 1 || acts[0] != last) {
			t.Fatalf("got %+v, want %+v", acts, last)
		}
		if last == nil && !slices.Contains(acts, action(actKill{x})) {
			t.Fatalf("it is not killed: %+v", acts)
		}
	}
}

// A job that ends at the last moment saves its child.
func TestOvertimeSettled(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	actions(w, evOvertime{x, 7})
	actions(w, evSettled{x, 7, false})
	w.pass(time.Hour)
	want(t, "killed", len(w.killed), 0)
}
