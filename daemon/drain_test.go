package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// An ended is what somebody who has asked for something is told, and how often.
type ended struct {
	n   int
	err error
}

func (o *ended) told(err error) { o.n, o.err = o.n+1, err }

func (o *ended) String() string {
	switch {
	case o.n == 0:
		return "waits"
	case o.err == nil:
		return "done"
	}
	return o.err.Error()
}

// A child that is to be drained finishes and is replaced at once; the answer comes when it has gone, or has begun to go.
func TestPoolDrainsOne(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	w.alive[x].busy = true
	var begun, gone, again, refused ended
	ask := func(begin bool, o *ended) {
		w.step(evDrain{pid: w.alive[x].pid, begin: begin, cause: "test", reply: o.told})
	}
	ask(false, &gone)
	ask(true, &begun)
	ask(false, &again)
	w.settle()
	want(t, "who wanted it to begin", begun.String(), "done")
	want(t, "who wanted it gone", gone.String(), "waits")
	want(t, "serving", w.serving(1), 3)
	want(t, "state", w.p.status.State, "serving")
	w.alive[x].busy = false
	w.settle()
	want(t, "who wanted it gone", gone.String(), "done")
	want(t, "who wanted it, too", again.String(), "done")
	want(t, "answers", gone.n+again.n+begun.n, 3)
	want(t, "born", w.p.status.Born, 4)
	want(t, "killed", len(w.killed), 0)
	w.step(evDrain{pid: 1, reply: refused.told})
	want(t, "for a stranger", refused.String(), "process 1 is no child of this daemon")
	w.frozen = true
	w.step(evExited{who: w.anyone(1), status: "signal: killed"})
	w.one()
	w.step(evDrain{pid: w.p.inOrder(1, phaseStarting)[0].pid, reply: refused.told})
	if !strings.Contains(refused.String(), "is not ready yet") {
		t.Errorf("for one that starts: %v", &refused)
	}
}

// A child that has been executed may be ready, and have work, before the pool hears that it was born. Who calls its start off in
// between asks it to leave, and does not kill it.
func TestPoolDrainsOneThatIsBeingBorn(t *testing.T) {
	w := newWorld(t).begin()
	w.step(evExited{who: w.anyone(1), status: "signal: killed"})
	m := w.p.inOrder(1, phaseStarting)[0]
	want(t, "its number", m.pid, 0)
	x := m.who
	w.alive[x].ready, w.alive[x].busy = true, true
	w.step(evDrain{cause: "test"})
	w.settle()
	w.step(evReady{x})
	w.pass(10 * time.Second)
	want(t, "killed", len(w.killed), 0)
	if w.alive[x] == nil || !w.alive[x].draining {
		t.Fatalf("it is %+v, and was busy", w.alive[x])
	}
	w.alive[x].busy = false
	w.settle()
	want(t, "state", w.p.status.State, "drained")
}

// A pool that is drained stays empty, whatever happens, until somebody asks for children.
func TestPoolDrains(t *testing.T) {
	for _, mode := range []Pool{Static, Dynamic, OnDemand} {
		t.Run(string(mode), func(t *testing.T) {
			l := dynamic(mode)
			l.dequeueMax, l.dequeueEvery = 2, time.Minute
			w := worldOf(t, l).begin()
			w.armed = false
			w.step(evKnock{})
			w.settle()
			w.work(1)
			w.look()
			w.settle()
			var begun, gone ended
			w.step(evDrain{cause: "test", begin: true, reply: begun.told})
			w.step(evDrain{cause: "test", reply: gone.told})
			w.settle()
			want(t, "who wanted it to begin", begun.String(), "done")
			want(t, "who wanted it empty", gone.String(), "waits")
			want(t, "state", w.p.status.State, "draining")
			want(t, "children", len(w.alive), 1) // the busy one
			w.rest()
			w.settle()
			want(t, "who wanted it empty", gone.String(), "done")
			want(t, "state", w.p.status.State, "drained")
			want(t, "wanted", w.p.status.Want, 0)
			born := w.p.status.Born
			w.step(evKnock{})
			w.step(evReload{cause: "a file has changed", unasked: true})
			w.step(evDrain{cause: "test", reply: gone.told})
			w.pass(time.Hour)
			want(t, "who asked when it was empty", gone.n, 2)
			want(t, "born", w.p.status.Born, born)
			want(t, "killed", len(w.killed), 0)

			w.print = "two"
			var scaled ended
			w.step(evScale{n: 3, cause: "test", reply: scaled.told})
			w.settle()
			want(t, "who wanted three", scaled.String(), "done")
			want(t, "children", w.p.count(0, phaseServing), 3)
			for _, m := range w.p.servers(1, phaseServing) {
				want(t, "why it was born", m.cause, "scale: test")
			}
			w.pass(time.Minute) // what was put off comes now
			want(t, "generation", w.p.generation, 2)
			want(t, "serving", w.serving(2), 3)
		})
	}
}

// What brings children back after a drain, and what does not: the last word counts.
func TestPoolAfterDrain(t *testing.T) {
	reload := func(unasked bool) func(w *world, o *ended) {
		return func(w *world, o *ended) { w.step(evReload{cause: "test", unasked: unasked, reply: o.told}) }
	}
	scale := func(n int, relative bool) func(w *world, o *ended) {
		return func(w *world, o *ended) { w.step(evScale{n: n, relative: relative, cause: "test", reply: o.told}) }
	}
	for _, tt := range []struct {
		name     string
		do       func(w *world, o *ended)
		broken   bool // the program at the path
		state    string
		serving  int
		gen      uint64 // that serves
		answered string
	}{
		{"scale", scale(5, false), false, "serving", 5, 1, "done"},
		{"scale to what it was", scale(3, false), false, "serving", 3, 1, "done"},
		{"TTIN", scale(1, true), false, "serving", 4, 1, "done"},
		{"TTOU", scale(-1, true), false, "serving", 2, 1, "done"},
		{"scale that cannot be", scale(99, false), false, "drained", 0, 1, "cannot scale to 99 children: want 1 to 50"},
		{"reload", reload(false), false, "serving", 3, 2, "done"},
		{"reload that fails", reload(false), true, "drained", 0, 1, "child exited before it was ready: exit status 1"},
		{"reload by a change of files", reload(true), false, "drained", 0, 1, "waits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := dynamic(Dynamic)
			l.soak = time.Second
			w := worldOf(t, l).begin()
			w.step(evDrain{cause: "test"})
			w.settle()
			w.print, w.broken["two"] = "two", tt.broken
			var o ended
			tt.do(w, &o)
			w.pass(10 * time.Second)
			want(t, "state", w.p.status.State, tt.state)
			want(t, "serving", w.serving(0), tt.serving)
			want(t, "generation", w.p.generation, tt.gen)
			want(t, "who asked", o.String(), tt.answered)
		})
	}
}

// The new program of a reload is tried before anybody is there, and given up if it does not last, at whatever stage.
func TestPoolReloadsEmpty(t *testing.T) {
	for _, stage := range []rollStage{rollCandidate, rollSoak, rollRest, rollSettling} {
		l := testLimits()
		l.soak, l.prefork, l.parallel = time.Second, 3, 1
		w := worldOf(t, l).begin()
		w.step(evDrain{cause: "test"})
		w.settle()
		w.print = "two"
		var o ended
		w.step(evReload{cause: "test", reply: o.told})
		for w.p.roll != nil && w.p.roll.stage < stage {
			if !w.one() { // its first job
				w.step(evProven{w.anyone(2)})
			}
			for _, m := range w.p.members {
				want(t, "generation", m.generation, 2)
			}
		}
		if w.p.roll == nil {
			t.Fatalf("the reload does not come to stage %d", stage)
		}
		w.broken["two"] = true
		for range maxRollFailures {
			if new := w.p.inOrder(2, phaseStarting, phaseServing); len(new) > 0 {
				w.step(evExited{who: new[0].who, status: "exit status 1"})
				w.pass(0)
			}
		}
		w.pass(time.Hour)
		want(t, "state", w.p.status.State, "drained")
		want(t, "children", len(w.alive), 0)
		want(t, "told", o.n == 1 && o.err != nil, true)
		want(t, "retreats", len(w.p.retreats), 0)
	}
}

// A drain waits for the start and for a reload that has begun; those that come after it, and those that wait themselves, do not
// count, unless somebody has asked for them.
func TestPoolDrainWaits(t *testing.T) {
	t.Run("for the start", func(t *testing.T) {
		w := newWorld(t)
		var o ended
		w.step(evStart{})
		w.step(evDrain{cause: "test", reply: o.told})
		w.settle()
		want(t, "up", w.up, true)
		want(t, "state", w.p.status.State, "drained")
		want(t, "who asked", o.String(), "done")
	})
	t.Run("for a reload", func(t *testing.T) {
		w := newWorld(t).begin()
		w.print = "two"
		var drained, reloaded ended
		w.step(evReload{cause: "test", reply: reloaded.told})
		w.step(evDrain{cause: "test", reply: drained.told})
		w.step(evReload{cause: "a file has changed", unasked: true})
		w.settle()
		want(t, "who wanted a reload", reloaded.String(), "done")
		want(t, "who wanted it empty", drained.String(), "done")
		want(t, "state", w.p.status.State, "drained")
		want(t, "generation", w.p.generation, 2)
	})
	t.Run("not for one that waits", func(t *testing.T) {
		l := testLimits()
		l.minReloadInterval = time.Hour
		w := worldOf(t, l).begin()
		var first, second, drained ended
		w.step(evReload{cause: "test", reply: first.told})
		w.settle()
		w.step(evReload{cause: "test", reply: second.told})
		w.step(evDrain{cause: "test", reply: drained.told})
		w.settle()
		want(t, "who wanted it empty", drained.String(), "done")
		if !strings.HasPrefix(second.String(), "put off") {
			t.Errorf("who wanted a reload is told %v", &second)
		}
		w.pass(2 * time.Hour)
		want(t, "generation", w.p.generation, 2)
		w.step(evScale{n: 3})
		w.pass(time.Minute)
		want(t, "generation", w.p.generation, 3)
	})
	t.Run("but the last word counts", func(t *testing.T) {
		for _, last := range []event{evReload{cause: "test"}, evScale{n: 3, cause: "test"}} {
			w := newWorld(t).begin()
			w.work(1)
			var drained ended
			w.step(evReload{cause: "test"})
			w.step(evDrain{cause: "test", reply: drained.told})
			w.step(last)
			w.rest()
			w.pass(time.Hour)
			if !strings.HasPrefix(drained.String(), "given up") {
				t.Errorf("%T: who wanted it empty is told %v", last, &drained)
			}
			want(t, "state", w.p.status.State, "serving")
			want(t, "serving", w.serving(0), 3)
		}
	})
	t.Run("nor for the end of the daemon", func(t *testing.T) {
		w := newWorld(t).begin()
		w.work(1)
		var waiting, late ended
		w.step(evDrain{cause: "test", reply: waiting.told})
		w.step(evStop{stopDrain, "test"})
		w.step(evDrain{cause: "test", reply: late.told})
		want(t, "who waits", waiting.String(), "the daemon is stopping: test")
		want(t, "who comes then", late.String(), "the daemon is stopping")
	})
}

// A drain outlives an upgrade in the middle of it, and so does everybody's question.
func TestPoolDrainUpgrade(t *testing.T) {
	w := newWorld(t).begin()
	w.work(2)
	x := w.anyone(1)
	var one, all ended
	w.step(evDrain{pid: w.alive[x].pid, cause: "test", reply: one.told})
	w.step(evDrain{cause: "test", reply: all.told})
	w.settle()
	w.step(evReload{cause: "a file has changed", unasked: true})
	w.step(evUpgrade{cause: "test"})
	w.step(evTried{})
	want(t, "frozen", w.frozenGate, true)
	w.succeed(time.Millisecond, 0)
	w.settle()
	want(t, "state", w.p.status.State, "draining")
	want(t, "who wanted one gone", one.String(), "waits")
	w.rest()
	w.settle()
	want(t, "who wanted one gone", one.String(), "done")
	want(t, "who wanted it empty", all.String(), "done")
	w.pass(time.Hour)
	want(t, "state", w.p.status.State, "drained")
	want(t, "born", w.p.status.Born, 4) // one was replaced before

	// Who has been answered by the parent before, and did not hear it, is so again.
	var heard, stranger ended
	w.step(evResume{drains: []evDrain{{reply: heard.told}, {pid: 4711, reply: stranger.told}}})
	want(t, "who had asked", heard.String(), "done")
	want(t, "who had asked for one that is gone", stranger.String(), "done")
	w.step(evScale{n: 2})
	w.settle()
	w.step(evResume{drains: []evDrain{{reply: heard.told}}})
	want(t, "who had asked before a scale", heard.err != nil, true)
}

// Those who are being started are not waited for, and whatever fails on the way leaves nothing behind.
func TestPoolDrainsThoseWhoStart(t *testing.T) {
	w := worldOf(t, dynamic(Dynamic)).begin()
	w.work(3)
	w.look()
	want(t, "starting", w.p.count(1, phaseStarting), 1)
	var o ended
	w.step(evDrain{cause: "test", reply: o.told})
	w.rest()
	for i, ev := range w.queue {
		if ev, ok := ev.(evSpawned); ok {
			w.queue[i] = evSpawnFailed{ev.who, errors.New("resource temporarily unavailable")}
		}
	}
	for x, k := range w.alive {
		if m := w.p.find(x); m == nil || m.pid == 0 {
			k.draining = true
		}
	}
	w.pass(time.Hour)
	want(t, "who asked", o.String(), "done")
	want(t, "state", w.p.status.State, "drained")
	want(t, "phase", w.p.count(0, scoreboard.PhaseStarting), 0)
}
