package daemon

import (
	"fmt"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// signDue is when something is to be done about a child's signs of life: it is asked for one, or given up.
func (p *pool) signDue(m *member) time.Time {
	switch {
	case p.hungAfter == 0 || m.pid == 0 || m.phase != phaseStarting && m.phase != phaseServing:
		return never
	case m.pinged != never:
		return m.pinged.Add(p.hungAfter / 2)
	}
	return m.sign.Add(p.hungAfter / 2)
}

// watchSigns asks children for a sign of life and ends those who give none while they have nothing to do, as has just
// been seen. A busy one is left alone: how long a job may take is for JobTimeout to say.
func (p *pool) watchSigns() {
	if p.hungAfter == 0 || p.stopping != stopNot {
		return
	}
	for _, m := range p.inOrder(0, phaseStarting, phaseServing) {
		due := p.signDue(m)
		if due == never || p.now.Before(due) {
			continue
		}
		switch {
		case m.pinged == never:
			m.pinged = p.now
			p.do(actTell{m.who, control.Message{Kind: control.Ping}})
		case m.busy:
			m.sign, m.pinged = p.now, never
		default:
			why := fmt.Sprintf("has given no sign of life for %v", p.hungAfter)
			if m.phase == scoreboard.PhaseStarting {
				m.failed = why
			}
			p.kill(m, why)
		}
	}
}

// stall is how late the parent must come to a deadline to take it that it could not run, and not that a child is slow.
const stall = time.Second

// forgive gives everybody the time in which the parent was not there to hear of them: it was stopped, or starved.
func (p *pool) forgive(d time.Duration) {
	later := func(t *time.Time) {
		if *t != never {
			*t = t.Add(d)
		}
	}
	for _, m := range p.members {
		later(&m.deadline)
		later(&m.sign)
		later(&m.pinged)
		if m.revoked != nil {
			later(&m.revoked.killAt)
		}
	}
	later(&p.stopAt)
	if p.roll != nil {
		later(&p.roll.until)
		later(&p.roll.proofAt)
		later(&p.roll.crowded)
	}
}
