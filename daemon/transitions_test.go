package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// Where a child can be, and one more: gone.
var phaseNames = map[phase]string{
	scoreboard.PhaseFree: "gone", phaseStarting: "starting", phaseServing: "serving",
	scoreboard.PhaseDraining: "draining", scoreboard.PhaseKilling: "killing",
}

// Each transition of a child, by name: in which phase it is, what happens, where it is then, and what is done about it.
func TestTransitions(t *testing.T) {
	lost := func(a Action) func(w *world, x who) []event {
		return func(_ *world, x who) []event {
			return []event{evGone{x, Disconnect{Job: 7}}, evVerdict{x, Disconnect{Job: 7}, a}}
		}
	}
	then := func(first func(*world, who) []event, more func(x who) []event) func(*world, who) []event {
		return func(w *world, x who) []event { return append(first(w, x), more(x)...) }
	}
	one := func(f func(x who) event) func(*world, who) []event {
		return func(_ *world, x who) []event { return []event{f(x)} }
	}
	wait := func(d time.Duration) func(*world, who) []event {
		return func(w *world, _ who) []event { w.now = w.now.Add(d); return []event{evTick{}} }
	}
	exit := func(status string) func(*world, who) []event {
		return one(func(x who) event { return evExited{who: x, status: status} })
	}
	stop := func(m stopMode) func(*world, who) []event {
		return one(func(who) event { return evStop{m, "test"} })
	}
	dismissed := func(first ...func(x who) event) func(*world, who) []event {
		return func(w *world, x who) []event {
			w.step(evStop{stopDrain, "test"})
			for _, f := range first {
				w.step(f(x))
			}
			w.now = w.now.Add(dismissTime)
			return []event{evTick{}}
		}
	}
	drained := one(func(who) event { return evDrain{cause: "test"} })
	overtime := one(func(x who) event { return evOvertime{x, 7} })
	overdue := func(x who) []event { return []event{evOverdue{x, 7}} }
	for _, tt := range []struct {
		from phase
		name string
		do   func(w *world, x who) []event
		to   phase
		did  string // actions on this child and births, in order
	}{
		{phaseStarting, "is ready", one(func(x who) event { return evReady{x} }), phaseServing, "phase serving"},
		{phaseStarting, "exits", exit("exit status 1"), scoreboard.PhaseFree, "free, birth"},
		{phaseStarting, "cannot be started", one(func(x who) event { return evSpawnFailed{x, errors.New("EAGAIN")} }), scoreboard.PhaseFree, "free, birth"},
		{phaseStarting, "takes too long", wait(10 * time.Second), scoreboard.PhaseKilling, "phase killing, kill"},
		{phaseStarting, "is spent, which cannot be", one(func(x who) event { return evSpent{x, "test"} }), phaseStarting, ""},
		{phaseStarting, "the daemon stops", stop(stopDrain), scoreboard.PhaseDraining, "phase draining, tell D"},
		{phaseStarting, "the daemon stops, does not obey", dismissed(), scoreboard.PhaseKilling, "phase killing, kill"},
		{phaseStarting, "the daemon stops, was ready before it knew", dismissed(func(x who) event { return evReady{x} }),
			scoreboard.PhaseDraining, ""},
		{phaseStarting, "is to be drained, which cannot be yet", one(func(x who) event { return evDrain{pid: 4711, cause: "test"} }), phaseStarting, ""},
		{phaseStarting, "all are to be drained", drained, scoreboard.PhaseDraining, "phase draining, tell D"},

		{phaseServing, "is ready, again", one(func(x who) event { return evReady{x} }), phaseServing, ""},
		{phaseServing, "is killed from outside", exit("signal: killed"), scoreboard.PhaseFree, "free, birth"},
		{phaseServing, "crashes", exit("exit status 2"), scoreboard.PhaseFree, "free, birth"},
		{phaseServing, "is spent", one(func(x who) event { return evSpent{x, "test"} }), scoreboard.PhaseDraining, "phase draining, tell D, birth"},
		{phaseServing, "has served for MaxAge", wait(time.Hour), scoreboard.PhaseDraining, "phase draining, tell D, birth, birth, birth"}, // all are as old
		{phaseServing, "client lost, ignored", lost(Ignore), phaseServing, "policy, tell C"},
		{phaseServing, "client lost, job cancelled", lost(Cancel), phaseServing, "policy, tell V"},
		{phaseServing, "client lost, child to be killed", lost(Kill), phaseServing, "policy, revoke 7, tell V"},
		{phaseServing, "client lost, told twice", then(lost(Cancel), func(x who) []event { return []event{evGone{x, Disconnect{Job: 7}}} }),
			phaseServing, "policy, tell V"},
		{phaseServing, "revoked job is over", then(lost(Kill), func(x who) []event { return []event{evSettled{x, 7, false}} }),
			phaseServing, "policy, revoke 7, tell V, revoke 0, tell C"},
		{phaseServing, "another job is over", then(lost(Kill), func(x who) []event { return []event{evSettled{x, 6, false}} }),
			phaseServing, "policy, revoke 7, tell V"},
		{phaseServing, "leaves with its revoked job", then(lost(Kill), func(x who) []event { return []event{evSettled{x, 7, true}} }),
			scoreboard.PhaseDraining, "policy, revoke 7, tell V, phase draining, birth"},
		{phaseServing, "revoked job runs on", then(lost(Kill), overdue), scoreboard.PhaseKilling, "policy, revoke 7, tell V, phase killing, kill, birth"},
		{phaseServing, "another job runs on", then(lost(Kill), func(x who) []event { return []event{evOverdue{x, 8}} }),
			phaseServing, "policy, revoke 7, tell V"},
		{phaseServing, "job over time", overtime, phaseServing, "revoke 7, tell V"},
		{phaseServing, "job over time, runs on", then(overtime, overdue), phaseServing, "revoke 7, tell V, term"},
		{phaseServing, "job over time, runs on after TERM", then(then(overtime, overdue), overdue),
			scoreboard.PhaseKilling, "revoke 7, tell V, term, phase killing, kill, birth"},
		{phaseServing, "is to be drained", one(func(x who) event { return evDrain{pid: 1000 + x.life, cause: "test"} }),
			scoreboard.PhaseDraining, "phase draining, tell D, birth"},
		{phaseServing, "all are to be drained", drained, scoreboard.PhaseDraining, "phase draining, tell D"},
		{phaseServing, "the daemon stops", stop(stopDrain), scoreboard.PhaseDraining, "phase draining, tell D"},
		{phaseServing, "the daemon stops quickly", stop(stopQuick), scoreboard.PhaseDraining, "phase draining, tell Q"},
		{phaseServing, "the daemon is killed", stop(stopKill), scoreboard.PhaseKilling, "phase killing, kill"},

		{scoreboard.PhaseDraining, "exits", exit("exit status 0"), scoreboard.PhaseFree, "free"},
		{scoreboard.PhaseDraining, "takes too long", wait(5 * time.Minute), scoreboard.PhaseDraining, "phase draining, tell O"},
		{scoreboard.PhaseDraining, "takes too long, told so", func(w *world, x who) []event {
			w.now = w.now.Add(5 * time.Minute)
			w.step(evTick{})
			w.now = w.now.Add(2 * time.Second)
			return []event{evTick{}}
		}, scoreboard.PhaseKilling, "phase killing, kill"},
		{scoreboard.PhaseDraining, "is spent", one(func(x who) event { return evSpent{x, "test"} }), scoreboard.PhaseDraining, ""},
		{scoreboard.PhaseDraining, "client lost, child to be killed", then(lost(Kill), overdue), scoreboard.PhaseKilling,
			"policy, revoke 7, tell V, phase killing, kill"},
		{scoreboard.PhaseDraining, "the daemon stops", stop(stopDrain), scoreboard.PhaseDraining, ""},
		{scoreboard.PhaseDraining, "the daemon stops quickly", stop(stopQuick), scoreboard.PhaseDraining, "phase draining, tell Q"},

		{scoreboard.PhaseDraining, "all are to be drained", drained, scoreboard.PhaseDraining, ""},

		{scoreboard.PhaseKilling, "all are to be drained", drained, scoreboard.PhaseKilling, ""},
		{scoreboard.PhaseKilling, "exits", exit("signal: killed"), scoreboard.PhaseFree, "free"},
		{scoreboard.PhaseKilling, "is ready, too late", one(func(x who) event { return evReady{x} }), scoreboard.PhaseKilling, ""},
		{scoreboard.PhaseKilling, "client lost", lost(Kill), scoreboard.PhaseKilling, ""},
		{scoreboard.PhaseKilling, "the daemon stops", stop(stopDrain), scoreboard.PhaseKilling, ""},
	} {
		t.Run(fmt.Sprintf("%s: %s", phaseNames[tt.from], tt.name), func(t *testing.T) {
			w, x := childIn(t, tt.from)
			var did []string
			for _, ev := range tt.do(w, x) {
				for _, a := range w.p.step(w.now, ev) {
					did = append(did, deed(a, x)...)
				}
			}
			got := scoreboard.PhaseFree
			if m := w.p.find(x); m != nil {
				got = m.phase
			}
			want(t, "it", phaseNames[got], phaseNames[tt.to])
			want(t, "what is done", strings.Join(did, ", "), tt.did)
		})
	}
}

// childIn returns a world in which a child has been brought into a phase, among two others that serve.
func childIn(t *testing.T, ph phase) (*world, who) {
	l := testLimits()
	l.maxAge = time.Hour
	w := worldOf(t, l).begin()
	w.now = w.now.Add(time.Minute)
	x := w.anyone(1)
	switch ph {
	case phaseStarting:
		w.step(evExited{who: x, status: "signal: killed"})
		x = w.p.inOrder(1, phaseStarting)[0].who
		w.queue = nil
		w.step(evSpawned{who: x, pid: 4711})
	case scoreboard.PhaseDraining:
		w.alive[x].busy = true
		w.step(evSpent{x, "test"})
		w.settle()
	case scoreboard.PhaseKilling:
		w.step(evGone{x, Disconnect{Job: 1}})
		w.step(evVerdict{x, Disconnect{Job: 1}, Kill})
		w.p.step(w.now, evOverdue{x, 1})
	}
	if m := w.p.find(x); m == nil || m.phase != ph {
		t.Fatalf("the child is not %s", phaseNames[ph])
	}
	w.queue = slices.DeleteFunc(w.queue, func(event) bool { return true })
	return w, x
}

// deed says in a word what an action does to a child; births of others count, too.
func deed(a action, x who) []string {
	switch a := a.(type) {
	case actSpawn:
		return []string{"birth"}
	case actTell:
		if a.who == x {
			return []string{"tell " + string(rune(a.msg.Kind))}
		}
	case actPhase:
		if a.who == x {
			return []string{"phase " + phaseNames[a.phase]}
		}
	case actKill:
		if a.who == x {
			return []string{"kill"}
		}
	case actTerm:
		return []string{"term"}
	case actFree:
		return []string{"free"}
	case actPolicy:
		return []string{"policy"}
	case actRevoke:
		return []string{fmt.Sprint("revoke ", a.serial)}
	}
	return nil
}
