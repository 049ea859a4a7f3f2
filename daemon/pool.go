package daemon

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

type phase = scoreboard.Phase

const (
	phaseStarting = scoreboard.PhaseStarting
	phaseServing  = scoreboard.PhaseServing
	phaseDraining = scoreboard.PhaseDraining
	phaseKilling  = scoreboard.PhaseKilling
)

// limits is what the pool is told when it begins, and again when that has changed.
type limits struct {
	mode         Pool
	prefork      int
	minSpare     int
	maxSpare     int // 0: follows the number of children
	maxChildren  int
	idleTimeout  time.Duration
	minChildAge  time.Duration
	maxAge       time.Duration // 0: none
	queues       int           // of each address, for one child each; 0: children share one
	slots        int           // more than maxChildren: draining children keep theirs
	parallel     int           // starts at once
	startTimeout time.Duration
	drainTimeout time.Duration
	stopTimeout  time.Duration
	killGrace    time.Duration
	hungAfter    time.Duration // 0: nobody is asked for a sign of life
	soak         time.Duration // that a new generation is on probation

	upgradeAfterReload     bool
	minReloadInterval      time.Duration // between the starts of two reloads
	maxDrainingGenerations int           // old ones that finish their jobs side by side
	maxDrainingChildren    int           // of old generations
	dequeueMax             int           // children with a queue of their own, 0: none
	dequeueEvery           time.Duration
}

// maxRollFailures is how many children of a new generation may fail to start or die by themselves, after its first one has
// proved itself, before the generation is given up.
const maxRollFailures = 3

// A pool decides. Its only method to call is step, with the time and something that happened; it answers with what is
// to be done. It does no input or output, reads no clock and has no goroutine, so that years of it can be run in a test.
type pool struct {
	limits
	members    map[int]*member // by slot
	life       int             // of the last child
	booting    bool            // not every first child has been ready yet
	cameUp     int             // those that have, while booting
	generation uint64          // the one that serves
	newest     uint64          // the last number given away
	prints     map[uint64]string
	bad        string // fingerprint of a program that could not start
	roll       *roll
	rolledAt   time.Time         // when the last reload began
	retreats   map[uint64]string // given-up generations that stand in for others, and why they were given up
	upgrade    *upgrade
	next       *evReload // asked for while another one was under way
	floor      int       // children that the pool does not go below
	target     int       // children wanted now
	ramp       int       // how many the next growth starts
	grownAt    time.Time // of the last growth
	shrinkAt   time.Time // of the next look for children that are not needed
	knocked    bool      // a connection waits and nobody is there
	armed      bool      // the parent listens for such a knock
	scaling    []evScale // wait until the floor is reached
	drained    bool      // nobody is to serve until children are asked for again
	draining   *drain    // waited for; nil: by nobody
	vacant     []string  // why children are missing
	places     []place
	dequeue    dequeue
	lines      ration // of the log, on children that fail
	unsaid     int    // lines that it did not get
	trouble    string // what has failed last
	deaths     ration // that are made good at once
	failed     ration // starts that are tried again at once
	stopping   stopMode
	stopAt     time.Time
	err        error // with which the daemon ends
	finished   bool
	status     scoreboard.Status

	now time.Time // of the step
	out []action
}

func newPool(l limits) *pool {
	p := &pool{limits: l, members: map[int]*member{}, prints: map[uint64]string{}, retreats: map[uint64]string{}, booting: true, floor: l.firstFloor()}
	p.deaths = ration{most: l.mostDeaths(), rate: deathRate, least: -deathRate * backoffMax.Seconds()}
	p.failed = ration{most: failuresAtOnce, rate: failureRate, least: -failureRate * backoffMax.Seconds()}
	p.lines = ration{most: linesAtOnce, rate: lineRate}
	if l.mode == OnDemand {
		p.minSpare = 0
	}
	p.target = p.floor
	return p
}

// step takes one event and returns what is to be done about it, in order.
func (p *pool) step(now time.Time, ev event) []action {
	p.now, p.out = now, nil
	switch ev := ev.(type) {
	case evStart:
		p.newest++
		p.generation = p.newest
		p.do(actPin{p.generation})
	case evSpawned:
		p.spawned(ev)
	case evSpawnFailed:
		if m := p.find(ev.who); m != nil {
			p.remove(m)
			p.startFailed(m, "", fmt.Sprintf("cannot be started: %v", ev.err))
		}
	case evReady:
		p.ready(ev.who)
	case evExited:
		p.exited(ev)
	case evReload:
		p.reload(ev)
	case evPinned:
		p.pinned(ev)
	case evUpgrade:
		p.askUpgrade(ev)
	case evTried:
		p.tried(ev)
	case evNotReplaced:
		p.upgradeOver(ev.err)
	case evResume:
		p.resume(ev)
	case evStop:
		p.stop(ev)
	case evGone:
		p.gone(ev)
	case evVerdict:
		p.verdict(ev)
	case evCensus:
		p.census(ev)
		p.watchSigns()
	case evKnock:
		p.armed, p.knocked = false, true
	case evAnswered:
		p.answered(ev)
	case evSpent:
		if m := p.find(ev.who); m != nil && m.revoked != nil {
			ev.why = m.revoked.why // the SIGTERM of which it speaks is ours
		}
		p.replace(ev.who, ev.why)
	case evProven:
		p.proven(ev.who)
	case evPaused:
		if m := p.find(ev.who); m != nil {
			m.paused = ev.paused
		}
	case evAlive:
		if m := p.find(ev.who); m != nil {
			m.sign, m.pinged = p.now, never
		}
	case evStalled:
		p.forgive(ev.d)
	case evScale:
		p.scale(ev)
	case evLimits:
		p.adopt(ev.limits)
	case evDrain:
		p.askDrain(ev)
	case evSettled:
		p.settled(ev)
	case evOverdue:
		p.overdue(ev)
	case evOvertime:
		if m := p.find(ev.who); m != nil {
			p.overtime(m, ev.serial)
		}
	}
	p.timeouts()
	p.resize()
	p.reconcile()
	p.trim()
	p.assign()
	p.describe()
	return p.out
}

// wake returns when the pool wants to be stepped even if nothing happens; never if it does not.
func (p *pool) wake() time.Time {
	first := never
	earlier := func(t time.Time) {
		if t != never && (first == never || t.Before(first)) {
			first = t
		}
	}
	for _, m := range p.members {
		earlier(m.deadline)
		earlier(m.expires)
		if m.revoked != nil {
			earlier(m.revoked.killAt)
		}
		earlier(p.signDue(m))
	}
	if p.roll != nil {
		earlier(p.roll.until)
		if p.roll.crowded.After(p.now) {
			earlier(p.roll.crowded)
		}
	}
	if p.upgrade != nil {
		earlier(p.upgrade.deadline)
	}
	earlier(p.dequeueDue())
	earlier(p.stopAt)
	earlier(p.retryAt())
	earlier(p.shrinkAt)
	return first
}

func (p *pool) do(a action) { p.out = append(p.out, a) }

func (p *pool) log(level slog.Level, m *member, msg string, attrs ...any) {
	if m != nil {
		attrs = append([]any{"slot", m.slot, "pid", m.pid, "generation", m.generation}, attrs...)
	}
	p.do(actLog{level: int(level), msg: msg, attrs: attrs})
}

// logSome is log while the log takes more such lines; if not, what has happened is an event all the same.
func (p *pool) logSome(may bool, level slog.Level, m *member, msg string, attrs ...any) {
	p.log(level, m, msg, attrs...)
	a := p.out[len(p.out)-1].(actLog)
	a.silent = !may
	p.out[len(p.out)-1] = a
}

func (p *pool) find(w who) *member {
	if m := p.members[w.slot]; m != nil && m.who == w {
		return m
	}
	return nil
}

// in reports whether a member is of a generation (0: of any) and in one of the phases.
func (m *member) in(generation uint64, phases []phase) bool {
	return (generation == 0 || m.generation == generation) && slices.Contains(phases, m.phase)
}

// count returns the number of servers of a generation (0: of any) in one of the phases.
func (p *pool) count(generation uint64, phases ...phase) int {
	n := 0
	for _, m := range p.members {
		if m.kind == scoreboard.Serve && m.in(generation, phases) {
			n++
		}
	}
	return n
}

// inOrder returns the members of a generation in one of the phases by slot, so that what is decided does not depend on
// the order of a map.
func (p *pool) inOrder(generation uint64, phases ...phase) []*member {
	var ms []*member
	for _, m := range p.members {
		if m.in(generation, phases) {
			ms = append(ms, m)
		}
	}
	slices.SortFunc(ms, func(a, b *member) int { return a.slot - b.slot })
	return ms
}

// servers is inOrder without those who have a queue of their own.
func (p *pool) servers(generation uint64, phases ...phase) []*member {
	return slices.DeleteFunc(p.inOrder(generation, phases...), func(m *member) bool { return m.kind != scoreboard.Serve })
}

// reconcile brings the pool nearer to what it should be.
func (p *pool) reconcile() {
	p.unpin()
	switch {
	case p.finished:
	case p.stopping != stopNot:
		if len(p.members) == 0 {
			p.finished = true
			p.do(actDone{p.err})
		}
	case p.prints[p.generation] == "": // the program has not been opened yet
	default:
		p.rollOn()
		p.refill()
		p.retreatOn()
		if p.booting && p.cameUp >= p.target {
			p.booting = false
			p.do(actUp{})
		}
		p.drainOn()
		p.fillDequeue()
		p.upgradeOn()
	}
}

// refill starts children of the serving generation where some are missing.
func (p *pool) refill() {
	if p.resting() || p.roll != nil && p.roll.stage == rollRest {
		return // nobody, or the new generation, takes the places
	}
	p.fill(p.generation, p.parallel, func() string {
		switch {
		case p.booting:
			return "start"
		case len(p.vacant) > 0:
			cause := p.vacant[0]
			p.vacant = p.vacant[1:]
			return cause
		case p.grownAt.Equal(p.now):
			return "nobody was idle"
		}
		return "one was missing"
	})
	if p.count(p.generation, phaseStarting, phaseServing) >= p.target {
		p.vacant = nil
	}
}
