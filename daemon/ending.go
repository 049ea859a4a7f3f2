package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// stop ends the pool, in order or not. A second wish to be quick kills.
func (p *pool) stop(ev evStop) {
	if ev.mode == stopQuick && p.stopping == stopQuick {
		ev.mode = stopKill
	}
	if ev.mode <= p.stopping {
		return
	}
	p.stopping = ev.mode
	p.log(slog.LevelInfo, nil, "stopping", "cause", ev.cause)
	why := fmt.Errorf("the daemon is stopping: %s", ev.cause)
	p.rollOver(why)
	p.upgradeOver(why)
	p.shrinkAt = never
	for _, sc := range p.scaling {
		p.reply(sc.reply, why)
	}
	p.scaling = nil
	p.drainOver(why)
	if p.next != nil {
		p.reply(p.next.reply, why)
		p.next = nil
	}
	switch ev.mode {
	case stopDrain:
		p.stopAt = p.now.Add(p.stopTimeout)
	case stopQuick:
		p.stopAt = p.now.Add(max(p.killGrace, 0))
	case stopKill:
		p.stopAt = never
	}
	for _, m := range p.inOrder(0, scoreboard.PhaseStarting, scoreboard.PhaseServing, scoreboard.PhaseDraining) {
		switch {
		case ev.mode == stopKill:
			p.kill(m, ev.cause)
		case m.phase == scoreboard.PhaseStarting:
			p.dismiss(m, ev.cause)
		case ev.mode == stopQuick:
			m.end, m.evicted = ev.cause, true
			p.setPhase(m, scoreboard.PhaseDraining, never)
			p.do(actTell{m.who, control.Message{Kind: control.Quit, Text: ev.cause, Within: max(p.killGrace, 0)}})
		case m.phase == scoreboard.PhaseServing:
			p.drain(m, ev.cause, 0)
		}
	}
}

// timeouts acts on every deadline that has passed.
func (p *pool) timeouts() {
	due := func(t time.Time) bool { return t != never && !p.now.Before(t) }
	if due(p.stopAt) && p.stopping == stopDrain {
		p.stop(evStop{mode: stopQuick, cause: "jobs did not come to an end within the stop timeout"})
	}
	if due(p.stopAt) {
		p.stopAt = never
		for _, m := range p.inOrder(0, scoreboard.PhaseStarting, scoreboard.PhaseServing, scoreboard.PhaseDraining) {
			p.kill(m, "did not come to an end before the daemon's stop timeout")
		}
	}
	if due(p.shrinkAt) {
		p.shrinkAt = never
	}
	for _, m := range p.inOrder(0, scoreboard.PhaseStarting, scoreboard.PhaseServing, scoreboard.PhaseDraining) {
		switch {
		case !due(m.deadline):
		case m.phase == phaseDraining && !m.evicted:
			p.evict(m, fmt.Sprintf("has drained for %v", p.drainTimeout))
		default:
			if m.phase == phaseStarting {
				m.failed = fmt.Sprintf("was not ready within %v", p.startTimeout)
			}
			p.kill(m, fmt.Sprintf("timeout: %s", cmp.Or(m.end, m.failed)))
		}
		if due(m.expires) {
			m.expires = never
			p.replace(m.who, fmt.Sprintf("has served for %v", p.now.Sub(m.readyAt).Round(time.Millisecond)))
		}
		if r := m.revoked; r != nil && due(r.killAt) {
			r.killAt = never
			p.do(actKillJob{m.who, r.serial})
		}
	}
}
