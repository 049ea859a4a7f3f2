package daemon

import (
	"errors"
	"fmt"
	"log/slog"
)

// A drain is what somebody has asked for who wants the pool empty: every child finishes its jobs and leaves, and none takes its
// place. The parent and its listeners stay, so clients wait in the kernel's queues.
//
// The last word counts. Children come back when somebody asks for them: by a scale, or by a reload, with the new program,
// once it has proved itself. A reload that nobody has asked for waits until then.
type drain struct {
	cause string
	begun []func(error) // who wait for the begin of it
	gone  []func(error) // who wait until nobody is left
}

// resting reports whether nobody is to serve: the pool has been drained, and no reload has brought other children yet.
func (p *pool) resting() bool { return p.drained && (p.roll == nil || p.roll.stage < rollSettling) }

// askDrain takes the wish that a child, or every child, finishes and leaves.
func (p *pool) askDrain(ev evDrain) {
	var err error
	m := p.byPID(ev.pid)
	switch {
	case p.stopping != stopNot:
		err = errors.New("the daemon is stopping")
	case ev.pid == 0:
		p.wantDrain(ev)
		return
	case m == nil:
		err = fmt.Errorf("process %d is no child of this daemon", ev.pid)
	case m.phase == phaseStarting:
		err = fmt.Errorf("child %d is not ready yet", ev.pid)
	}
	if err != nil {
		p.log(slog.LevelWarn, nil, "drain refused", "cause", ev.cause, "err", err)
		p.reply(ev.reply, err)
		return
	}
	p.replace(m.who, ev.cause) // if it serves; else it leaves anyway
	if ev.begin {
		p.reply(ev.reply, nil)
		return
	}
	m.leavers = append(m.leavers, ev.reply)
}

// byPID returns the child with this process id; nil if there is none.
func (p *pool) byPID(pid int) *member {
	for _, m := range p.members {
		if m.pid == pid && pid != 0 {
			return m
		}
	}
	return nil
}

// wantDrain takes the wish that every child leaves. A reload that has begun is waited for; one that waits itself is put off.
func (p *pool) wantDrain(ev evDrain) {
	if p.draining == nil {
		p.draining = &drain{cause: ev.cause}
	}
	if ev.begin {
		p.draining.begun = append(p.draining.begun, ev.reply)
	} else {
		p.draining.gone = append(p.draining.gone, ev.reply)
	}
	why := fmt.Errorf("put off until children are asked for again: all of them are to leave, %s", ev.cause)
	if r := p.roll; r != nil && r.stage == rollWaiting {
		p.roll = nil
		p.newest--
		for _, f := range r.replies {
			p.reply(f, why)
		}
		p.wish(evReload{cause: r.cause, auto: r.auto, unasked: true})
	}
	if p.next != nil {
		p.reply(p.next.reply, why)
		p.next.reply, p.next.unasked = nil, true
	}
}

// drainOn empties the pool as soon as no start, reload or retreat is under way, and tells those who wait for that.
func (p *pool) drainOn() {
	d := p.draining
	if d == nil || p.booting || p.roll != nil || len(p.retreats) > 0 {
		return
	}
	if !p.drained {
		p.empty(d.cause)
	}
	p.answer(&d.begun, nil)
	if len(p.members) == 0 {
		p.answer(&d.gone, nil)
		p.draining = nil
	}
}

// empty has every child leave.
func (p *pool) empty(cause string) {
	p.log(slog.LevelInfo, nil, "draining all children", "cause", cause, "children", len(p.members))
	p.drained, p.target, p.shrinkAt = true, p.floor, never
	p.places, p.vacant, p.dequeue.owed = nil, nil, 0
	for _, sc := range p.scaling {
		p.reply(sc.reply, fmt.Errorf("given up: all children are to leave, %s", cause))
	}
	p.scaling = nil
	for _, m := range p.inOrder(0, phaseStarting) {
		p.dismiss(m, cause)
	}
	for _, m := range p.inOrder(0, phaseServing) {
		p.drain(m, cause, p.drainTimeout)
	}
}

// drainOver tells those who wait for an empty pool that it comes to nothing.
func (p *pool) drainOver(err error) {
	if d := p.draining; d != nil {
		p.answer(&d.begun, err)
		p.answer(&d.gone, err)
	}
	p.draining = nil
}

// answer tells all who wait for something, once.
func (p *pool) answer(waiting *[]func(error), err error) {
	for _, f := range *waiting {
		p.reply(f, err)
	}
	*waiting = nil
}

// resumeDrain goes on for somebody who has asked the parent before this one.
func (p *pool) resumeDrain(ev evDrain) {
	m := p.byPID(ev.pid)
	switch {
	case m != nil && !ev.begin:
		m.leavers = append(m.leavers, ev.reply)
	case ev.pid != 0: // it has gone, or was told to
		p.reply(ev.reply, nil)
	case p.drained:
		p.wantDrain(ev)
	default:
		p.reply(ev.reply, errors.New("given up: children have been asked for again"))
	}
}
