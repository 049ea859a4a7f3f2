package daemon

import (
	"cmp"
	"fmt"
	"time"

	"github.com/brooddaemon/brood/internal/control"
)

// progress says in a line how far the daemon is with what somebody has asked for; empty: it has not begun, or there is nothing
// to say. It tells of no time that goes by, so that it changes only when something has.
func (p *pool) progress(req control.Request) string {
	left := func(n int) string {
		if n == 1 {
			return "1 child is left"
		}
		return fmt.Sprintf("%d children are left", n)
	}
	switch m := p.byPID(req.PID); {
	case req.Verb == control.VerbStop && p.stopping != stopNot:
		return "stopping: " + left(len(p.members))
	case p.stopping != stopNot:
		return ""
	case req.Verb == control.VerbReload:
		return p.rollProgress()
	case req.Verb == control.VerbUpgrade && p.upgrade != nil:
		return p.upgradeProgress()
	case req.Verb == control.VerbScale && len(p.scaling) > 0:
		return fmt.Sprintf("%d of %d children serve", min(p.count(p.generation, phaseServing), p.floor), p.floor)
	case req.Verb == control.VerbDrain && req.PID != 0:
		if m != nil && (m.phase == phaseDraining || m.phase == phaseKilling) {
			return fmt.Sprintf("child %d finishes its jobs", m.pid)
		}
	case req.Verb == control.VerbDrain && p.draining != nil && p.drained:
		return "draining: " + left(len(p.members))
	case req.Verb == control.VerbDrain && p.draining != nil:
		return "waiting for what is under way: " + cmp.Or(p.rollProgress(), "the start of children")
	}
	return ""
}

func (p *pool) rollProgress() string {
	r := p.roll
	switch {
	case r == nil && (p.next == nil || p.putsOff(*p.next)): // for that one nobody waits
		return ""
	case r == nil && p.upgrade != nil:
		return "waiting for an upgrade"
	case r == nil:
		return "waiting for the start"
	}
	text := fmt.Sprintf("generation %d: ", r.generation)
	switch r.stage {
	case rollWaiting:
		return text + "waiting until " + r.until.Format(time.TimeOnly) + ", reloads are to be apart"
	case rollPinning:
		return text + "the program is tried"
	case rollCandidate:
		return text + "its first child starts"
	case rollSoak:
		return text + "its first child is on probation"
	case rollRest:
		return fmt.Sprintf("%s%d of %d replaced", text, min(p.count(r.generation, phaseServing), p.target), p.target)
	}
	return text + "it serves, and settles"
}

func (p *pool) upgradeProgress() string {
	switch p.upgrade.stage {
	case upgradeWaiting:
		return "waiting for what is under way: " + cmp.Or(p.rollProgress(), "the start of children")
	case upgradeTrying:
		return "the program is tried"
	}
	return "the parent comes to rest"
}
