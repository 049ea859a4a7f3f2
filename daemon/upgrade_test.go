package daemon

import (
	"errors"
	"testing"
	"time"
)

// An upgrade waits for what is under way, and what is asked for meanwhile waits for the upgrade.
func TestPoolUpgradeWaits(t *testing.T) {
	w := newWorld(t).begin()
	w.print = "two"
	w.step(evReload{cause: "test"})
	var failed error
	w.step(evUpgrade{cause: "test", reply: func(err error) { failed = err }})
	want(t, "tried during a reload", w.tried, 0)
	w.settle()
	want(t, "generation", w.p.generation, 2)
	want(t, "tried", w.tried, 1)
	w.print = "three"
	w.step(evReload{cause: "test"})
	w.settle()
	want(t, "generation while an upgrade is under way", w.p.generation, 2)
	w.step(evTried{err: errors.New("unfit")})
	w.settle()
	want(t, "told", failed.Error(), "unfit")
	want(t, "frozen", w.frozenGate, false)
	want(t, "generation", w.p.generation, 3)
}

// Nothing is started while the parent is about to be replaced, and all of it is if that comes to nothing.
func TestPoolUpgradeHolds(t *testing.T) {
	w := newWorld(t).begin()
	w.step(evUpgrade{cause: "test"})
	// One that is just being started has to be known first.
	w.step(evExited{who: w.anyone(1), status: "exit status 2"})
	w.step(evTried{})
	want(t, "frozen before all children are known", w.frozenGate, false)
	w.settle()
	want(t, "frozen", w.frozenGate, true)
	want(t, "state", w.p.status.State, "upgrading")
	w.step(evExited{who: w.anyone(1), status: "exit status 2"})
	w.settle()
	want(t, "serving", w.serving(0), 2)
	w.step(evNotReplaced{errors.New("ENOEXEC")})
	w.pass(time.Second)
	want(t, "frozen", w.frozenGate, false)
	want(t, "serving", w.serving(0), 3)
	want(t, "ok", w.p.status.ReloadOK, false)
	// A hook that hangs does not hold it up for ever.
	w.step(evUpgrade{cause: "test"})
	w.step(evTried{})
	w.pass(upgradeTime)
	want(t, "frozen", w.frozenGate, false)
	want(t, "state", w.p.status.State, "serving")
	// A stop goes before.
	w.step(evUpgrade{cause: "test"})
	w.step(evTried{})
	w.step(evStop{stopDrain, "test"})
	w.settle()
	want(t, "done", w.done, true)
}

func TestPoolUpgradeAfterReload(t *testing.T) {
	l := testLimits()
	l.upgradeAfterReload = true
	w := worldOf(t, l).begin()
	w.step(evReload{cause: "test"})
	w.settle()
	want(t, "tried", w.tried, 1)
	w.broken["bad"] = true
	w.print = "bad"
	w.step(evTried{err: errors.New("unfit")})
	w.step(evReload{cause: "test"})
	w.settle()
	want(t, "tried after a reload that has failed", w.tried, 1)
}
