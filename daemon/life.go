package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// spawn starts a child in the first free slot; nil if there is none. Its deadline is set before it is born. failures is
// how often one in its place has failed before it.
func (p *pool) spawn(kind scoreboard.Kind, generation uint64, cause string, failures int) *member {
	slot := 0
	for p.members[slot] != nil {
		slot++
	}
	if slot >= p.slots || p.holding() {
		return nil
	}
	p.life++
	m := &member{
		who: who{slot, p.life}, cause: cause, kind: kind, generation: generation, phase: scoreboard.PhaseStarting, failures: failures,
		deadline: p.now.Add(p.startTimeout), sign: p.now, lost: map[uint64]time.Time{},
	}
	p.members[slot] = m
	p.status.Born++
	p.do(actSpawn{m.who, kind, generation, failures > 0, cause})
	return m
}

func (p *pool) spawned(ev evSpawned) {
	m := p.find(ev.who)
	if m == nil {
		return
	}
	m.pid = ev.pid
	p.log(slog.LevelDebug, m, "child started", "cause", m.cause)
	switch m.phase {
	case scoreboard.PhaseKilling:
		p.do(actKill{m.who})
	case scoreboard.PhaseDraining: // dismissed before anything could be said to it
		p.dismiss(m, m.end)
	}
}

func (p *pool) setPhase(m *member, ph phase, deadline time.Time) {
	if m.phase, m.deadline = ph, deadline; ph == phaseDraining && m.drains == never {
		m.drains = p.now
		p.log(slog.LevelDebug, m, "child drains", "cause", m.end)
	}
	p.do(actPhase{m.who, ph})
}

func (p *pool) ready(w who) {
	m := p.find(w)
	switch {
	case m == nil || m.pid == 0:
		return
	case m.phase == scoreboard.PhaseDraining && m.readyAt == never:
		m.readyAt, m.idleSince, m.sign, m.evicted = p.now, p.now, p.now, p.stopping == stopQuick
		m.deadline = never
		if p.stopping == stopNot && p.drainTimeout > 0 {
			m.deadline = p.now.Add(p.drainTimeout)
		}
		return
	case m.phase != scoreboard.PhaseStarting:
		return
	}
	p.setPhase(m, scoreboard.PhaseServing, never)
	m.readyAt, m.idleSince, m.sign = p.now, p.now, p.now
	if p.maxAge > 0 && m.kind == scoreboard.Serve {
		m.expires = p.now.Add(less(p.maxAge))
	}
	switch {
	case m.kind == scoreboard.Dequeue:
		p.log(slog.LevelDebug, m, "dequeue child ready")
	default:
		p.logSome(m.failures == 0 || p.mayLog(), slog.LevelInfo, m, "child ready")
	}
	// Counted, not looked for at one moment: children that live for one job may never all serve at once.
	if p.booting {
		p.cameUp++
	}
	if r := p.roll; r != nil && r.generation == m.generation && m.kind == scoreboard.Serve {
		r.ready++
	}
	if r := p.roll; r != nil && r.generation == m.generation && r.stage == rollCandidate && m.kind == scoreboard.Serve {
		r.proofAt = p.now.Add(max(p.soak, 0))
		r.stage, r.until = rollSoak, r.proofAt
		p.yield(r.old)
	}
}

// less takes up to a tenth off, at random.
func less(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d/10)+1))
}

// miss notes why a child is missing, for the record of the one that takes its place.
func (p *pool) miss(m *member, why string) {
	if m.kind != scoreboard.Serve {
		return
	}
	p.vacant = append(p.vacant, fmt.Sprintf("replaces %d: %s", m.pid, why))
}

// replace drains a child that has served its time; another one takes its place at once.
func (p *pool) replace(w who, why string) {
	if m := p.find(w); m != nil && m.phase == scoreboard.PhaseServing {
		p.miss(m, why)
		p.drain(m, why, p.drainTimeout)
	}
}

// drain asks a child to finish and leave.
func (p *pool) drain(m *member, why string, timeout time.Duration) {
	deadline := never
	if timeout > 0 {
		deadline = p.now.Add(timeout)
	}
	m.end, m.expires = why, never
	p.setPhase(m, scoreboard.PhaseDraining, deadline)
	p.do(actTell{m.who, control.Message{Kind: control.Drain, Text: why}})
}

func (p *pool) kill(m *member, why string) {
	if m.phase == scoreboard.PhaseKilling {
		return
	}
	if m.phase == scoreboard.PhaseServing {
		p.miss(m, why)
	}
	attrs := []any{"cause", why}
	served := m.revoked != nil // it ends because of a job, which says nothing about its code
	if served {
		attrs = append(attrs, "job", m.revoked.serial)
	}
	m.end, m.revoked, m.waiting, m.expires = why, nil, nil, never
	p.setPhase(m, scoreboard.PhaseKilling, never)
	if m.pid != 0 {
		p.status.Killed++
		p.logSome(m.failed == "" || p.mayLog(), slog.LevelWarn, m, "killing child", attrs...)
		p.do(actKill{m.who})
	} else {
		p.logSome(true, slog.LevelInfo, m, "start of child called off", attrs...) // it ends as soon as it is born
	}
	if r := p.roll; r != nil && r.stage == rollSoak && r.generation == m.generation && !served && p.stopping == stopNot {
		p.rollFailed(m, "", fmt.Errorf("child %s", why))
	}
}

// dismissTime is what a child has to leave that has not come up.
const dismissTime = time.Second

// dismiss ends a child that has not said yet that it is ready. It may be about to say so, and have work already: then it
// finishes that.
func (p *pool) dismiss(m *member, why string) {
	patience := dismissTime
	if m.pid == 0 { // it may have been born, and only the word of that is on its way
		p.logSome(true, slog.LevelInfo, m, "start of child called off", "cause", why)
		patience = 0
	}
	p.drain(m, why, patience)
	m.evicted = true // the end of that time is its end
}

func (p *pool) remove(m *member) {
	delete(p.members, m.slot)
	p.do(actFree{m.who})
	p.answer(&m.leavers, nil)
}

func (p *pool) exited(ev evExited) {
	m := p.find(ev.who)
	if m == nil {
		return
	}
	p.remove(m)
	p.status.Done += ev.done
	p.status.Skipped += ev.skipped
	p.status.Refused += ev.refused
	switch {
	case m.phase == scoreboard.PhaseStarting, m.failed != "":
		text := m.failed
		if text == "" {
			text = "exited before it was ready: " + ev.status
			if ev.failed != "" {
				text = ev.failed
			}
		}
		p.startFailed(m, ev.status, text)
	case m.end != "":
		if m.phase == scoreboard.PhaseServing {
			p.miss(m, m.end)
		}
		if m.kind == scoreboard.Dequeue && m.generation != p.generation {
			p.dequeue.next = p.now // one of the new code takes its place
		}
		p.log(slog.LevelInfo, m, "child ended", "cause", m.end, "status", ev.status, "done", ev.done)
	case m.kind == scoreboard.Dequeue && ev.status == "exit status 0":
		p.dequeueEnded(m, ev.done)
	default:
		p.status.Died++
		p.miss(m, "died, "+ev.status)
		p.trouble = fmt.Sprintf("child %d died, %s", m.pid, ev.status)
		p.logSome(p.mayLog(), slog.LevelWarn, m, "child died", "status", ev.status, "done", ev.done)
		outside := fromOutside(ev.status)
		young := p.now.Sub(m.readyAt) < infancy && !outside
		rolling := p.roll != nil && p.roll.generation == m.generation
		err := fmt.Errorf("child died right after it was ready: %s", ev.status)
		switch {
		case m.kind == scoreboard.Dequeue && !outside:
			p.dequeueFailed(m, "died, "+ev.status)
		case m.kind == scoreboard.Dequeue:
		case rolling && (p.roll.stage == rollSoak || !outside):
			p.rollFailed(m, ev.status, err)
		case !rolling && m.generation != p.generation: // nobody takes its place
		case young && p.booting:
			p.fail(err)
		case young:
			p.failedPlace(m)
		default:
			p.bereave(m)
		}
	}
}

// fromOutside reports whether a child ended by a signal that somebody sends. That says nothing about the code.
func fromOutside(status string) bool {
	switch status {
	case "signal: killed", "signal: terminated":
		return true
	}
	return false
}

// startFailed draws the consequences of a child that did not come up.
func (p *pool) startFailed(m *member, status, text string) {
	err := fmt.Errorf("child %s", text)
	switch {
	case p.stopping != stopNot || m.end != "" && m.failed == "":
		p.logSome(false, slog.LevelInfo, m, "child ended", "cause", cmp.Or(m.end, text), "status", status)
	case m.kind == scoreboard.Dequeue:
		p.dequeueFailed(m, text)
	case p.booting:
		p.logSome(false, slog.LevelError, m, "child failed to start", "err", text)
		p.fail(err)
	case p.roll != nil && p.roll.generation == m.generation:
		p.rollFailed(m, status, err)
	default:
		pl := p.failedPlace(m)
		p.trouble = "child failed to start: " + text
		p.logSome(p.mayLog(), slog.LevelError, m, "child failed to start", "err", text, "failures", pl.failures,
			"retry", pl.at.Sub(p.now).Round(time.Millisecond))
	}
}

func (p *pool) fail(err error) {
	if p.err == nil {
		p.err = err
		p.log(slog.LevelError, nil, "the daemon cannot start", "err", err)
	}
	p.stop(evStop{mode: stopKill, cause: "the daemon cannot start"})
}
