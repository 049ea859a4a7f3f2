package daemon

import (
	"errors"
	"log/slog"
	"slices"
	"time"
)

// An upgradeStage is how far the replacement of the parent's own program has come.
type upgradeStage int

const (
	upgradeWaiting  upgradeStage = iota // a start or a reload is under way
	upgradeTrying                       // the new program is on trial
	upgradeHolding                      // nothing is started until those are known that are being started
	upgradeFreezing                     // and until all that children have sent is dealt with
)

// An upgrade is the parent's replacement by a new program in its own place: the same process, the same children.
type upgrade struct {
	stage    upgradeStage
	cause    string
	replies  []func(error) // told if it comes to nothing; who waits for a success hears of it from the new program
	deadline time.Time
}

// upgradeTime is how long the parent tries to come to rest for an upgrade. Only a hook that takes its time can need as much.
const upgradeTime = 10 * time.Second

// errNoRest is why an upgrade fails for which there is never a good moment.
var errNoRest = errors.New("the parent does not come to rest: a hook takes its time")

// askUpgrade begins the replacement of the parent's program. Wishes that come meanwhile are the same wish.
func (p *pool) askUpgrade(ev evUpgrade) {
	switch {
	case p.stopping != stopNot:
		p.reply(ev.reply, errors.New("the daemon is stopping"))
	case p.upgrade != nil:
		p.upgrade.replies = append(p.upgrade.replies, ev.reply)
	default:
		p.upgrade = &upgrade{cause: ev.cause, replies: []func(error){ev.reply}}
	}
}

// upgradeOn moves it forward as far as it can go now.
func (p *pool) upgradeOn() {
	u := p.upgrade
	if u == nil {
		return
	}
	if u.stage == upgradeWaiting && !p.booting && p.roll == nil && len(p.retreats) == 0 {
		u.stage = upgradeTrying
		p.log(slog.LevelDebug, nil, "upgrade", "cause", u.cause)
		p.do(actTry{u.cause})
	}
	unborn := slices.ContainsFunc(p.inOrder(0, phaseStarting, phaseDraining, phaseKilling), func(m *member) bool { return m.pid == 0 })
	if u.stage == upgradeHolding && !unborn {
		u.stage = upgradeFreezing
		p.do(actFreeze{})
	}
	if u.stage >= upgradeHolding && !p.now.Before(u.deadline) {
		p.upgradeOver(errNoRest)
	}
}

// tried takes the outcome of the trial.
func (p *pool) tried(ev evTried) {
	u := p.upgrade
	switch {
	case u == nil || u.stage != upgradeTrying:
	case ev.err != nil:
		p.upgradeOver(ev.err)
	default:
		u.stage, u.deadline = upgradeHolding, p.now.Add(upgradeTime)
	}
}

// holding reports whether nothing is to be started, because the parent is about to be replaced.
func (p *pool) holding() bool { return p.upgrade != nil && p.upgrade.stage >= upgradeHolding }

// upgradeOver ends an upgrade that has come to nothing: the parent goes on as it was.
func (p *pool) upgradeOver(err error) {
	u := p.upgrade
	if u == nil {
		return
	}
	p.upgrade = nil
	p.log(slog.LevelError, nil, "upgrade failed, the parent goes on as it was", "cause", u.cause, "err", err)
	p.noteUpgrade(u.cause, err)
	if u.stage >= upgradeTrying {
		p.do(actThaw{})
	}
	for _, f := range u.replies {
		p.reply(f, err)
	}
}

// noteUpgrade writes the outcome where that of reloads stands.
func (p *pool) noteUpgrade(cause string, err error) {
	p.status.ReloadAt, p.status.ReloadOK, p.status.Reload = p.now, err == nil, "upgrade: "+cause
	if err != nil {
		p.status.Reload += ": " + err.Error()
	}
}

// resume is the first step of a parent that has taken over: what may have been lost on the way is done again.
func (p *pool) resume(ev evResume) {
	p.log(slog.LevelInfo, nil, "upgraded", "cause", ev.cause, "children", len(p.members), "generation", p.generation)
	p.noteUpgrade(ev.cause, nil)
	p.forgive(ev.gap)
	for _, f := range ev.reloads {
		if p.next == nil { // it had come to its end before
			p.reply(f, nil)
			continue
		}
		p.next.reply = both(p.next.reply, f)
	}
	for _, f := range ev.scales {
		p.scaling = append(p.scaling, evScale{reply: f})
	}
	for _, d := range ev.drains {
		p.resumeDrain(d)
	}
	for _, m := range p.inOrder(0, phaseKilling) {
		p.do(actKill{m.who})
	}
}
