package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// A Dequeue is work that no client brings: a spool, a mail queue, a timetable. It is done by children of their own kind,
// beside those that serve the listeners.
type Dequeue struct {
	// MainLoop is such a child's work: called once in each of them, as Config.MainLoop is in the others. When it returns
	// the child exits; it may as well go on until ctx ends. Nothing is accepted in it. Child.Do shows on the scoreboard
	// what it works on. Default: there are no such children.
	MainLoop func(ctx context.Context, c *Child) error

	// Max is how many of them there may be at once, also during a reload: those of the new code start when old ones have
	// finished. Default 1.
	Max int

	// Every is how often as many are started as are missing of Max, the first time when the daemon is up. One that fails
	// is not tried again sooner, and after several failures in a row less often. Default 1 min.
	Every time.Duration
}

const defaultDequeueEvery = time.Minute

// complete fills in the defaults.
func (d *Dequeue) complete() error {
	if d.MainLoop == nil {
		if d.Max != 0 || d.Every != 0 {
			return fmt.Errorf("field Dequeue has Max %d and Every %v, but no MainLoop: its children would have no work", d.Max, d.Every)
		}
		return nil
	}
	setDefault(&d.Max, 1)
	setDefault(&d.Every, defaultDequeueEvery)
	switch {
	case d.Max < 0 || d.Max > mostChildren:
		return fmt.Errorf("field Dequeue.Max is %d: want 1 to %d children", d.Max, mostChildren)
	case d.Every < 10*time.Millisecond:
		return fmt.Errorf("field Dequeue.Every is %v: want at least 10ms, or 0 for the default", d.Every)
	}
	return nil
}

// dequeue is what the pool keeps of the children of that kind.
type dequeue struct {
	next     time.Time // when those that are missing are started
	owed     int       // of them, still to be started
	failures int       // in a row
}

// dequeueDue is when the pool is to look after them; never if there are none.
func (p *pool) dequeueDue() time.Time {
	if p.dequeueMax == 0 || p.booting || p.stopping != stopNot || p.roll != nil || p.resting() {
		return never
	}
	return p.dequeue.next
}

// fillDequeue starts the children with a queue of their own, when their time has come. During a reload none are
// started: the next ones run the new code, or the old one for good.
func (p *pool) fillDequeue() {
	if p.dequeueMax == 0 || p.booting || p.roll != nil || p.resting() {
		return
	}
	q := &p.dequeue
	if !p.now.Before(q.next) {
		q.next = p.now.Add(p.dequeueEvery)
		q.owed = p.dequeueMax
		for _, m := range p.members {
			if m.kind == scoreboard.Dequeue { // also one that drains: Max is Max
				q.owed--
			}
		}
	}
	for ; q.owed > 0 && len(p.inOrder(0, phaseStarting)) < p.parallel; q.owed-- {
		if p.spawn(scoreboard.Dequeue, p.generation, fmt.Sprintf("dequeue, every %v", p.dequeueEvery), q.failures) == nil {
			return
		}
	}
}

// dequeueEnded takes note of one that has done its work.
func (p *pool) dequeueEnded(m *member, done uint64) {
	p.dequeue.failures = 0
	p.log(slog.LevelDebug, m, "dequeue child has done its work", "done", done)
}

// dequeueFailed puts off the next ones after several failures in a row.
func (p *pool) dequeueFailed(m *member, why string) {
	q := &p.dequeue
	q.failures++
	p.trouble = fmt.Sprintf("dequeue child %d %s", m.pid, why)
	if d := min(backoffFirst<<min(q.failures, 10), backoffMax); q.failures > 1 && q.next.Before(p.now.Add(d)) {
		q.next = p.now.Add(d + time.Duration(rand.Int64N(int64(d/5))))
	}
	p.logSome(p.mayLog(), slog.LevelError, m, "dequeue child failed", "err", why, "failures", q.failures,
		"retry", q.next.Sub(p.now).Round(time.Millisecond))
}
