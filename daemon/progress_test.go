package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/brooddaemon/brood/internal/control"
)

// How far the daemon is, at each stage of what can be waited for; nothing before it has begun, nor when it is over.
func TestProgress(t *testing.T) {
	l := testLimits()
	l.soak, l.minReloadInterval, l.parallel = time.Minute, time.Hour, 1
	w := worldOf(t, l)
	says := func(verb string, pid int, text string) {
		t.Helper()
		want(t, verb, w.p.progress(control.Request{Verb: verb, PID: pid}), text)
	}
	verbs := []string{control.VerbReload, control.VerbUpgrade, control.VerbScale, control.VerbDrain, control.VerbStop, control.VerbReopen}
	w.step(evStart{})
	w.step(evDrain{})
	says(control.VerbDrain, 0, "waiting for what is under way: the start of children")
	w.step(evReload{cause: "test"}) // the last word counts
	says(control.VerbReload, 0, "waiting for the start")
	for w.p.booting {
		w.one()
	}
	w.step(evTick{})
	says(control.VerbReload, 0, "generation 2: the program is tried")
	w.one()
	says(control.VerbReload, 0, "generation 2: its first child starts")
	w.one()
	w.one()
	says(control.VerbReload, 0, "generation 2: its first child is on probation")
	w.step(evUpgrade{cause: "test"})
	says(control.VerbUpgrade, 0, "waiting for what is under way: generation 2: its first child is on probation")
	w.step(evProven{w.anyone(2)})
	says(control.VerbReload, 0, "generation 2: 1 of 3 replaced")
	w.settle()
	says(control.VerbReload, 0, "generation 2: it serves, and settles")
	w.pass(time.Minute)
	says(control.VerbUpgrade, 0, "the program is tried")
	w.step(evReload{cause: "test"})
	says(control.VerbReload, 0, "waiting for an upgrade")
	w.step(evTried{})
	says(control.VerbUpgrade, 0, "the parent comes to rest")
	w.step(evNotReplaced{errNoRest})
	says(control.VerbReload, 0, "generation 3: waiting until "+w.p.roll.until.Format(time.TimeOnly)+", reloads are to be apart")
	w.step(evDrain{begin: true}) // it is put off
	w.settle()
	for _, verb := range verbs {
		says(verb, 0, "")
	}
	w.frozen = true
	w.step(evScale{n: 5})
	says(control.VerbScale, 0, "0 of 5 children serve")
	w.frozen = false
	w.settle()
	w.work(2)
	m := w.p.members[0]
	says(control.VerbDrain, m.pid, "")
	w.step(evDrain{pid: m.pid})
	says(control.VerbDrain, m.pid, fmt.Sprintf("child %d finishes its jobs", m.pid))
	w.step(evDrain{})
	w.settle()
	says(control.VerbDrain, 0, "draining: 2 children are left")
	w.step(evStop{stopDrain, "test"})
	says(control.VerbStop, 0, "stopping: 2 children are left")
	says(control.VerbDrain, 0, "")
	w.rest()
	w.one()
	says(control.VerbStop, 0, "stopping: 1 child is left")
}
