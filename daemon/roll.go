package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// A rollStage is how far a reload has come.
type rollStage int

const (
	rollWaiting   rollStage = iota // for MinReloadInterval to pass
	rollPinning                    // the program is being opened and tried
	rollCandidate                  // one child of the new generation must become ready
	rollSoak                       // and must do a job, or live for a while, beside the old ones
	rollRest                       // step by step: new ones become ready, old ones drain
	rollSettling                   // the new generation serves; the old program is kept in case that it does not last
)

// A roll is a reload under way.
type roll struct {
	generation uint64
	old        uint64 // the generation that serves on if it fails
	stage      rollStage
	cause      string
	auto       bool
	replies    []func(error)
	failures   int
	until      time.Time // when the stage ends, if it is one that lasts
	before     time.Time // when the reload before this one began
	proofAt    time.Time // when the probation of the new code ends
	crowded    time.Time // when its patience with those ends that drain and leave no room for others; never: there was room
	ready      int       // children of it that have been ready
	bad        bool      // the code is at fault
}

var errNoChange = errors.New("the program has not changed")

// reload begins a new generation, or remembers the wish until the one under way is through.
func (p *pool) reload(ev evReload) {
	if !ev.unasked {
		p.drainOver(fmt.Errorf("given up: a reload has been asked for, %s", ev.cause))
	}
	switch {
	case p.stopping != stopNot:
		p.reply(ev.reply, errors.New("the daemon is stopping"))
	case p.booting || p.roll != nil || p.upgrade != nil || p.putsOff(ev):
		p.wish(ev)
	default:
		p.newest++
		r := &roll{generation: p.newest, old: p.generation, cause: ev.cause, auto: ev.auto, replies: []func(error){ev.reply}}
		if p.minReloadInterval > 0 && p.rolledAt != never {
			r.until = p.rolledAt.Add(p.minReloadInterval)
		}
		p.roll = r
	}
}

// wish remembers a reload for later. Several become one.
func (p *pool) wish(ev evReload) {
	if p.next != nil {
		first := *p.next
		ev.reply, ev.auto, ev.unasked = both(first.reply, ev.reply), first.auto && ev.auto, first.unasked && ev.unasked
	}
	p.next = &ev
}

// putsOff reports whether a reload has to wait until somebody asks for children again.
func (p *pool) putsOff(ev evReload) bool { return ev.unasked && (p.drained || p.draining != nil) }

func both(a, b func(error)) func(error) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(err error) { a(err); b(err) }
}

func (p *pool) reply(f func(error), err error) {
	if f != nil {
		p.do(actReply{f, err})
	}
}

// pinned goes on when the program of a generation has been opened.
func (p *pool) pinned(ev evPinned) {
	if ev.err == nil {
		p.prints[ev.generation] = ev.print
	}
	if ev.unfit {
		p.bad = ev.print
	}
	r := p.roll
	switch {
	case r != nil && r.generation == ev.generation && r.stage == rollPinning:
		switch {
		case ev.err != nil:
			p.rollOver(ev.err)
		case r.auto && ev.print == p.prints[p.generation]:
			p.rollOver(errNoChange)
		case r.auto && ev.print == p.bad:
			p.rollOver(fmt.Errorf("%w since it failed to start", errNoChange))
		default:
			r.stage = rollCandidate
			p.log(slog.LevelInfo, nil, "reload", "cause", r.cause, "generation", r.generation, "program", ev.print)
			p.tryCandidate()
		}
	case ev.generation == p.generation && ev.err != nil:
		p.fail(ev.err)
	}
}

// tryCandidate starts the first child of the new generation.
func (p *pool) tryCandidate() {
	p.roll.stage, p.roll.until = rollCandidate, never
	p.spawnCandidate()
}

func (p *pool) spawnCandidate() {
	r := p.roll
	if p.spawn(scoreboard.Serve, r.generation, "reload: "+r.cause, r.failures) == nil {
		p.rollOver(errors.New("no slot is free: too many children still drain"))
	}
}

// rollOn moves a reload forward as far as it can go now.
func (p *pool) rollOn() {
	if p.roll == nil && p.next != nil && !p.booting && p.upgrade == nil && !p.putsOff(*p.next) {
		ev := *p.next
		p.next = nil
		p.reload(ev)
	}
	r := p.roll
	if r == nil {
		return
	}
	due := !p.now.Before(r.until)
	switch {
	case r.stage == rollWaiting && due:
		r.before, p.rolledAt = p.rolledAt, p.now
		r.stage, r.until = rollPinning, never
		p.do(actPin{r.generation})
	case r.stage == rollSoak && due:
		r.stage, r.until = rollRest, never
	case r.stage == rollSoak && p.count(r.generation, phaseStarting, phaseServing) == 0:
		// It was asked to end: it has done as many jobs as it may, or its client has left. Another one goes on with the
		// probation.
		p.spawnCandidate()
	case r.stage == rollSettling && due:
		p.rollOver(nil)
	}
	if p.roll != nil && r.stage == rollRest {
		p.rollStep()
	}
}

// rollStep drains as many old children as new ones serve in their place, and starts the next new ones.
func (p *pool) rollStep() {
	r := p.roll
	serving := p.count(r.generation, phaseServing)
	old := slices.DeleteFunc(p.servers(0, phaseServing), func(m *member) bool { return m.generation == r.generation })
	// One for each that has come up, also if that one has gone since: children that live for one job may never be all there.
	for len(old) > 0 && (serving+len(old) > p.target || len(old) > p.target-r.ready) && p.roomToDrain() {
		p.drain(old[0], "reload: "+r.cause, p.drainTimeout)
		old = old[1:]
	}
	if len(old) == 0 && (serving >= p.target || r.ready >= p.target) {
		p.rollSettle()
		return
	}
	if serving+len(old) <= p.target {
		p.fill(r.generation, rollStep(p.target), func() string { return "reload: " + r.cause })
	}
}

// rollStep is how many of so many children are replaced at once.
func rollStep(children int) int { return max(1, children/10) }

// rollSettle makes the new generation the one that serves. What was the old one is kept for a while: code that dies soon
// after it was ready must not have taken its place for good.
func (p *pool) rollSettle() {
	r := p.roll
	r.stage, r.until = rollSettling, r.proofAt
	p.generation = r.generation
	p.dequeue = dequeue{next: p.now}
	// A pool on demand may have had nobody: the one that was tried stays.
	p.target = max(p.target, min(p.count(r.generation, phaseServing), p.maxChildren))
	p.log(slog.LevelInfo, nil, "new generation serves", "generation", r.generation)
	if !p.now.Before(r.until) {
		p.rollOver(nil)
	}
}

// proven takes the word of a child that it has done its first job: that is all the proof that is waited for.
func (p *pool) proven(w who) {
	m, r := p.find(w), p.roll
	if m != nil && r != nil && r.stage == rollSoak && m.generation == r.generation && m.kind == scoreboard.Serve {
		r.until = p.now
	}
}

// rollFailed deals with a child of the new generation that did not come up.
func (p *pool) rollFailed(m *member, status string, err error) {
	r := p.roll
	r.failures++
	if m.readyAt != never {
		r.ready-- // it does not count
	}
	r.bad = r.bad || !fromOutside(status)
	over := r.stage < rollRest || r.failures >= min(maxRollFailures, p.target)
	if over && m.readyAt == never {
		p.logSome(false, slog.LevelError, m, "child failed to start", "err", err) // the log is told of the reload
	}
	switch {
	case r.stage < rollRest && fromOutside(status) && r.failures < maxRollFailures:
		p.tryCandidate()
		return
	case over:
		p.rollOver(err)
		return
	}
	p.failedPlace(m)
	p.logSome(p.mayLog(), slog.LevelError, m, "child failed to start", "err", err)
}

// rollOver ends the reload under way: the new generation takes over, or, with an error, leaves and is remembered.
func (p *pool) rollOver(err error) {
	r := p.roll
	if r == nil {
		return
	}
	p.roll = nil
	if !errors.Is(err, errNoChange) {
		p.places = nil // what failed was of another program, or of one that failed for good
	}
	for _, f := range r.replies {
		switch {
		case errors.Is(err, errNoChange) && r.auto:
			p.reply(f, nil)
		default:
			p.reply(f, err)
		}
	}
	leaving := r.old
	switch {
	case err == nil:
		p.bad, p.drained = "", false
		p.log(slog.LevelInfo, nil, "reload done", "generation", r.generation)
		p.do(actAdopt{r.generation})
		if p.upgradeAfterReload {
			p.askUpgrade(evUpgrade{cause: "after reload: " + r.cause})
		}
	case errors.Is(err, errNoChange):
		p.log(slog.LevelInfo, nil, "reload not needed", "cause", r.cause, "reason", err)
		// As if nobody had asked: the next one has its number, and need not wait for it.
		p.rolledAt = r.before
		p.newest--
		delete(p.prints, r.generation)
		p.do(actUnpin{r.generation})
		return
	case p.stopping != stopNot:
		leaving = r.generation
	default:
		leaving, p.generation = r.generation, r.old
		if r.bad {
			p.bad = p.prints[r.generation]
		}
		p.log(slog.LevelError, nil, "reload failed, the old children go on", "generation", p.generation,
			"given_up", r.generation, "cause", r.cause, "err", err)
		p.stepUp(p.generation)
	}
	p.status.ReloadAt, p.status.ReloadOK, p.status.Reload = p.now, err == nil, r.cause
	if err != nil {
		p.status.Reload = r.cause + ": " + err.Error()
	}
	why := "reload: " + r.cause
	if err != nil {
		why = "reload given up: " + err.Error()
	}
	for _, m := range p.inOrder(leaving, scoreboard.PhaseStarting) {
		p.dismiss(m, why)
	}
	if err != nil && r.stage >= rollRest {
		p.retreats[leaving] = why
		return
	}
	for _, m := range p.inOrder(leaving, scoreboard.PhaseServing) {
		p.drain(m, why, p.drainTimeout)
	}
}

// retreatOn drains those of given-up generations as the others come back: they serve on until those are there again.
func (p *pool) retreatOn() {
	if len(p.retreats) == 0 {
		return
	}
	left := slices.DeleteFunc(p.servers(0, phaseServing), func(m *member) bool { return p.retreats[m.generation] == "" })
	for serving := p.count(p.generation, phaseServing); len(left) > 0 && (p.resting() || serving+len(left) > p.target); left = left[1:] {
		p.drain(left[0], p.retreats[left[0].generation], p.drainTimeout)
	}
	if len(left) == 0 {
		clear(p.retreats)
	}
}

// unpin closes the programs of generations that nobody will be started from again.
func (p *pool) unpin() {
	for g := range p.prints {
		if g != p.generation && (p.roll == nil || p.roll.generation != g && p.roll.old != g) {
			delete(p.prints, g)
			p.do(actUnpin{g})
		}
	}
}
