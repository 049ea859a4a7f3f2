package daemon

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// lostMemory is how long the serial of a job whose client has left is remembered, so that a second eye which sees the
// same thing later is not taken for news.
const lostMemory = time.Minute

// gone takes note of a client that has left, the first time it is told, and asks the policy.
func (p *pool) gone(ev evGone) {
	m := p.find(ev.who)
	if m == nil || ev.d.Job == 0 || m.phase != scoreboard.PhaseServing && m.phase != scoreboard.PhaseDraining {
		return
	}
	if _, known := m.lost[ev.d.Job]; known {
		return
	}
	if len(m.lost) >= 1024 {
		for serial, at := range m.lost {
			if p.now.Sub(at) > lostMemory {
				delete(m.lost, serial)
			}
		}
	}
	m.lost[ev.d.Job] = p.now
	p.status.Lost++
	ev.d.PID, ev.d.Slot, ev.d.Generation = m.pid, m.slot, m.generation
	p.do(actPolicy(ev))
}

// verdict carries out what the policy wants.
func (p *pool) verdict(ev evVerdict) {
	m := p.find(ev.who)
	if m == nil || m.phase != scoreboard.PhaseServing && m.phase != scoreboard.PhaseDraining {
		return
	}
	p.log(slog.LevelInfo, m, "client has left", "job", ev.d.Job, "text", ev.d.Text, "client", ev.d.client(),
		"how", ev.d.How.String(), "action", ev.action.String())
	switch ev.action {
	default:
		p.do(actTell{m.who, control.Message{Kind: control.Clear, Serial: ev.d.Job}})
	case Cancel:
		// Names the job and harms nothing else, so there is nothing to settle.
		p.do(actTell{m.who, control.Message{Kind: control.Revoke, Serial: ev.d.Job}})
	case Kill:
		r := revocation{serial: ev.d.Job, killAt: p.now.Add(max(p.killGrace, 0))}
		if m.revoked != nil {
			m.waiting = append(m.waiting, r)
			return
		}
		p.revoke(m, r)
	}
}

// revoke puts the job's serial where the child looks before it begins another one, and then tells the child. Which
// comes first matters: see scoreboard.Slot.SetRunning.
func (p *pool) revoke(m *member, r revocation) {
	m.revoked = &r
	p.do(actRevoke{m.who, r.serial})
	p.do(actTell{m.who, control.Message{Kind: control.Revoke, Serial: r.serial, Kill: true}})
}

// settled ends a revocation: the job is over. The child leaves because of it, or it had ended in time and goes on.
func (p *pool) settled(ev evSettled) {
	m := p.find(ev.who)
	switch {
	case m == nil || m.phase != scoreboard.PhaseServing && m.phase != scoreboard.PhaseDraining:
		return
	case ev.leaving:
		// Also if the slot has told already that the job is over: the child means it.
		m.revoked, m.waiting = nil, nil
		m.end = fmt.Sprintf("client of job %d has left", ev.serial)
		p.miss(m, m.end)
		p.setPhase(m, scoreboard.PhaseDraining, p.now.Add(max(p.killGrace, 0)))
		return
	case m.revoked == nil || m.revoked.serial != ev.serial:
		return
	}
	m.revoked = nil
	p.do(actRevoke{m.who, 0})
	p.do(actTell{m.who, control.Message{Kind: control.Clear, Serial: ev.serial}})
	if len(m.waiting) > 0 {
		r := m.waiting[0]
		m.waiting = m.waiting[1:]
		r.killAt = p.now.Add(max(p.killGrace, 0))
		p.revoke(m, r)
	}
}
