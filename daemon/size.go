package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// A Pool says how the number of children follows the work.
type Pool string

const (
	// Dynamic grows and shrinks between Prefork and MaxChildren.
	Dynamic Pool = "dynamic"
	// Static keeps Prefork children.
	Static Pool = "static"
	// OnDemand starts without children, and starts the first one when the first connection waits.
	OnDemand Pool = "ondemand"
)

const (
	// maxRamp is how many children are started at once at the most when the pool grows; it begins with one and doubles.
	maxRamp = 32
	// rampReset is how long the pool must not have grown for the next growth to begin with one again.
	rampReset = time.Second
	// shrinkEvery is how often the pool looks for children that it can do without.
	shrinkEvery = time.Second
)

// A seen is what a child's slot says of it, a hint about that child.
type seen struct {
	who
	busy bool
	done uint64
	// overtime is the serial of a job whose time is over, 0: none
	overtime uint64
}

// census takes note of who is busy. The parent takes one when a child rings and while the pool is larger than need be.
func (p *pool) census(ev evCensus) {
	for _, s := range ev.seen {
		m := p.find(s.who)
		if m == nil {
			continue
		}
		if s.overtime != 0 {
			p.overtime(m, s.overtime)
		}
		if m.phase != scoreboard.PhaseServing {
			continue
		}
		// A child that has done something since the last look was busy in between.
		if s.busy || s.done != m.done || m.idleSince == never {
			m.idleSince = p.now
		}
		m.busy, m.done = s.busy, s.done
	}
}

// spare counts the children that can take work now or soon. Those that are starting count: a slow start is no reason to
// start more.
func (p *pool) spare() int {
	n := p.count(0, scoreboard.PhaseStarting)
	for _, m := range p.servers(0, scoreboard.PhaseServing) {
		if !m.busy && !m.asked {
			n++
		}
	}
	return n
}

// resize lets the pool follow the work.
func (p *pool) resize() {
	if p.mode == Static || p.booting || p.stopping != stopNot {
		return
	}
	if p.resting() {
		p.knocked = false // whoever waits is heard again
		return
	}
	need := p.minSpare
	if p.knocked {
		need = max(need, 1)
	}
	p.knocked = false
	nobody := p.target > 0 && p.count(0, scoreboard.PhaseStarting, scoreboard.PhaseServing) == 0 // as many as are wanted are to come
	if p.spare() < need && !nobody && p.target < p.maxChildren && p.retryAt() == never {
		if p.grownAt == never || p.now.Sub(p.grownAt) >= rampReset {
			p.ramp = 1
		}
		n := min(p.ramp, p.maxChildren-p.target)
		p.target += n
		p.ramp, p.grownAt = min(2*p.ramp, maxRamp), p.now
		p.log(slog.LevelInfo, nil, "growing", "by", n, "to", p.target)
	}
	p.shrink()
}

// below is the number of spare children at which one that becomes busy is to ring; 0 if that would lead to nothing.
func (p *pool) below() int {
	if p.mode != Dynamic || p.booting || p.stopping != stopNot || p.resting() || p.target >= p.maxChildren || p.retryAt() != never {
		return 0
	}
	return p.minSpare
}

// shrink asks those who have been idle for the longest to leave, if there are more idle ones than need be.
func (p *pool) shrink() {
	p.shrinkAt = never
	if p.roll != nil || p.target <= p.floor {
		return
	}
	p.shrinkAt = p.now.Add(shrinkEvery)
	for surplus := p.spare() - p.maxSpareNow(); surplus > 0; surplus-- {
		if m := p.longestIdle(p.idleTimeout, p.minChildAge); m != nil {
			p.ask(m)
		}
	}
}

// maxSpareNow is how many idle children are too few to be sent away: what was asked for, or a quarter, and three.
func (p *pool) maxSpareNow() int {
	if p.maxSpare > 0 || p.mode == OnDemand {
		return p.maxSpare
	}
	return max(3, p.minSpare, p.target/4)
}

// longestIdle returns the child that has been idle for the longest, if that and its age are at least the given ones.
func (p *pool) longestIdle(idle, age time.Duration) *member {
	var longest *member
	for _, m := range p.servers(0, scoreboard.PhaseServing) {
		if m.busy || m.asked || m.idleSince == never || p.now.Sub(m.idleSince) < idle || p.now.Sub(m.readyAt) < age {
			continue
		}
		if longest == nil || m.idleSince.Before(longest.idleSince) {
			longest = m
		}
	}
	return longest
}

// ask asks a child to leave if it has nothing to do. A child that has just got work refuses.
func (p *pool) ask(m *member) {
	m.asked = true
	p.do(actTell{m.who, control.Message{Kind: control.Leave}})
}

// answered takes a child's answer to being asked.
func (p *pool) answered(ev evAnswered) {
	m := p.find(ev.who)
	if m == nil || !m.asked {
		return
	}
	m.asked = false
	if !ev.leaves {
		m.busy, m.idleSince = true, p.now
		return
	}
	if m.phase != scoreboard.PhaseServing {
		return
	}
	if p.count(0, scoreboard.PhaseStarting, scoreboard.PhaseServing) <= p.target { // else it is one too many
		p.target = max(p.target-1, p.floor)
	}
	m.end = "not needed"
	p.setPhase(m, scoreboard.PhaseDraining, p.now.Add(p.drainTimeout))
}

// adopt takes other limits. A floor that somebody has moved stays where it is, as far as it can be; deadlines that run stay as they are,
// but the age at which a child is replaced counts from its begin.
func (p *pool) adopt(l limits) {
	was, moved := p.limits, p.floor != p.firstFloor()
	l.mode, l.queues, l.slots, l.parallel = was.mode, was.queues, was.slots, was.parallel // nobody can change these
	if l.mode == OnDemand {
		l.minSpare = 0
	}
	p.limits = l
	p.deaths.most = l.mostDeaths()
	if !moved {
		p.floor = p.firstFloor()
	}
	p.floor = min(max(p.floor, p.leastFloor()), p.maxChildren)
	target := p.target
	p.target = min(max(target, p.floor), p.maxChildren)
	if p.mode == Static {
		p.target = p.floor
	}
	p.vacant = append(p.vacant, slices.Repeat([]string{"settings changed"}, max(0, p.target-target))...)
	if l.maxAge != was.maxAge {
		for _, m := range p.servers(0, scoreboard.PhaseServing) {
			m.expires = never
			if l.maxAge > 0 {
				m.expires = m.readyAt.Add(less(l.maxAge))
			}
		}
	}
	if l.dequeueMax > was.dequeueMax || l.dequeueEvery != was.dequeueEvery {
		p.dequeue.next = p.now
	}
}

// firstFloor is the number of children that a pool does not go below if nobody says otherwise.
func (l *limits) firstFloor() int {
	if l.mode == OnDemand {
		return 0
	}
	return l.prefork
}

// mostDeaths is how many children may die by themselves and be replaced without delay.
func (l *limits) mostDeaths() float64 { return float64(max(deathsAtOnce, 2*l.maxChildren)) }

// leastFloor is how far down somebody may move it.
func (l *limits) leastFloor() int { return min(1, l.firstFloor()) }

// scale moves the floor: the number of children that the pool does not go below, and has at once.
func (p *pool) scale(ev evScale) {
	to := ev.n
	if ev.relative {
		to += p.floor
	}
	least := p.leastFloor()
	switch {
	case p.stopping != stopNot:
		p.reply(ev.reply, errors.New("the daemon is stopping"))
		return
	case p.queues > 0 && to != p.queues:
		err := fmt.Errorf("cannot scale to %d children: with Serialize %q there are %d queues, for one child each, until the daemon is started anew",
			to, SerializeReuseport, p.queues)
		p.log(slog.LevelWarn, nil, "scale refused", "cause", ev.cause, "err", err)
		p.reply(ev.reply, err)
		return
	case to < least || to > p.maxChildren:
		err := fmt.Errorf("cannot scale to %d children: want %d to %d", to, least, p.maxChildren)
		p.log(slog.LevelWarn, nil, "scale refused", "cause", ev.cause, "err", err)
		p.reply(ev.reply, err)
		return
	}
	p.log(slog.LevelInfo, nil, "scale", "cause", ev.cause, "from", p.floor, "to", to)
	surplus := p.floor - to
	p.floor = to
	if p.target < to || p.mode == Static || p.drained {
		p.target = to
	}
	if p.drained {
		p.drained, p.vacant = false, slices.Repeat([]string{"scale: " + ev.cause}, to)
	}
	p.drainOver(fmt.Errorf("given up: %d children have been asked for, %s", to, ev.cause))
	// Those who are not needed any more go as soon as they have nothing to do, the longest idle first.
	if p.mode != Static {
		for ; surplus > 0; surplus-- {
			if m := p.longestIdle(0, 0); m != nil {
				p.ask(m)
			}
		}
	}
	p.scaling = append(p.scaling, ev)
}

// trim does what follows from the number of children that there are now: it listens for a knock if there are none to
// answer it, asks surplus children to leave, of a static pool or more than there may be, and answers those who wait for a scale.
func (p *pool) trim() {
	if p.mode == OnDemand && !p.armed && !p.booting && p.stopping == stopNot && !p.resting() && p.spare() == 0 &&
		p.target < p.maxChildren && p.retryAt() == never {
		p.armed = true
		p.do(actArm{})
	}
	have := p.count(p.generation, scoreboard.PhaseStarting, scoreboard.PhaseServing)
	most := p.maxChildren // there are more if it was lowered
	if p.mode == Static {
		most = p.target
	}
	if p.roll == nil && p.stopping == stopNot && have > most {
		p.shrinkAt = p.now.Add(shrinkEvery)
		asked := 0
		for _, m := range p.servers(p.generation, scoreboard.PhaseServing) {
			if m.asked {
				asked++
			}
		}
		for ; have-asked > most; asked++ {
			m := p.longestIdle(0, 0)
			if m == nil {
				break
			}
			p.ask(m)
		}
	}
	if len(p.scaling) > 0 && p.roll == nil && p.count(p.generation, scoreboard.PhaseServing) >= p.floor {
		for _, ev := range p.scaling {
			p.reply(ev.reply, nil)
		}
		p.scaling = nil
	}
}
