package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// lostMemory is how long the serial of a job whose client has left is remembered, so that a second eye which sees the
// same thing later is not taken for news.
const lostMemory = time.Minute

// mostLost is how many lost clients of one child are remembered before those are forgotten that left longer ago, and how
// many revocations of one child may wait for each other.
const mostLost = 1024

// gone takes note of a client that has left, the first time it is told, and asks the policy.
func (p *pool) gone(ev evGone) {
	m := p.find(ev.who)
	if m == nil || ev.d.Job == 0 || m.phase != scoreboard.PhaseServing && m.phase != scoreboard.PhaseDraining {
		return
	}
	if _, known := m.lost[ev.d.Job]; known {
		return
	}
	if len(m.lost) >= mostLost && p.now.Sub(m.forgot) > lostMemory {
		m.forgot = p.now
		for serial, at := range m.lost {
			if p.now.Sub(at) > lostMemory {
				delete(m.lost, serial)
			}
		}
	}
	if len(m.lost) >= 64*mostLost { // more than a child can have lost
		clear(m.lost)
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
	attrs := []any{"job", ev.d.Job, "text", ev.d.Text, "client", ev.d.client(), "how", ev.d.How.String(), "action", ev.action.String()}
	if ev.d.Proxy.IsValid() {
		attrs = append(attrs, "proxy", ev.d.Proxy.String())
	}
	p.log(slog.LevelInfo, m, "client has left", attrs...)
	switch ev.action {
	default:
		p.do(actTell{m.who, control.Message{Kind: control.Clear, Serial: ev.d.Job}})
	case Cancel:
		// Names the job and harms nothing else, so there is nothing to settle.
		p.do(actTell{m.who, control.Message{Kind: control.Revoke, Serial: ev.d.Job}})
	case Kill:
		p.revoke(m, revocation{serial: ev.d.Job, why: fmt.Sprintf("client of job %d has left", ev.d.Job)})
	}
}

// revoke puts the job's serial where the child looks before it begins another one, and then tells the child. Which
// comes first matters: see scoreboard.Slot.SetWork.
//
// A child settles one revocation after the other.
func (p *pool) revoke(m *member, r revocation) {
	switch {
	case m.revoked != nil && len(m.waiting) >= mostLost:
		p.kill(m, "has more revoked jobs than can be")
		return
	case m.revoked != nil:
		m.waiting = append(m.waiting, r)
		return
	}
	r.killAt = p.now.Add(max(p.killGrace, 0))
	m.revoked, m.revokedFor, m.revokedJob = &r, r.why, r.serial
	p.log(slog.LevelDebug, m, "job revoked", "job", r.serial, "cause", r.why)
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
		m.end = cmp.Or(m.revokedFor, "leaves with its job")
		m.revoked, m.waiting = nil, nil
		p.miss(m, m.end)
		m.evicted = true
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
		p.revoke(m, r)
	}
}

// overtime revokes a job whose time is over: its context ends, then its process group gets SIGTERM, then its tree SIGKILL, each
// after KillGrace.
func (p *pool) overtime(m *member, serial uint64) {
	if serial == 0 || m.phase != scoreboard.PhaseServing && m.phase != scoreboard.PhaseDraining {
		return
	}
	// The child says so, and its slot does, again and again.
	if m.late == serial {
		return
	}
	m.late = serial
	p.log(slog.LevelWarn, m, "job has run for longer than it may", "job", serial)
	p.revoke(m, revocation{serial: serial, why: fmt.Sprintf("time of job %d is over", serial), term: true})
}

// overdue takes the next step against a job that runs on although it has been revoked.
func (p *pool) overdue(ev evOverdue) {
	m := p.find(ev.who)
	if m == nil || m.revoked == nil || m.revoked.serial != ev.serial {
		return
	}
	if r := m.revoked; r.term {
		r.term, r.killAt = false, p.now.Add(max(p.killGrace, 0))
		m.end = r.why
		p.do(actTerm{m.who})
		return
	}
	p.kill(m, m.revoked.why)
}
