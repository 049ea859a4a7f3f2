package daemon

import (
	"net/netip"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/netmon"
	"github.com/brooddaemon/brood/scoreboard"
)

// try logs an error that the daemon can live with.
func (l *loop) try(err error) {
	if err != nil {
		l.log.Error("scoreboard", "err", err)
	}
}

// mendRate is how many lines each second tell that the scoreboard has been mended: whoever hurts it may do so again and again.
const mendRate = 1.0 / 60

// mend makes the scoreboard whole again if a child, or somebody else who may write to it, has cut it short or written over its
// header. The children are asked for a sign of life, for then they see to their places, too.
func (l *loop) mend() {
	hurt, err := l.board.Mend()
	if !hurt {
		l.try(err)
		return
	}
	for _, proc := range l.processes {
		if len(proc.unsent) == 0 { // who does not read at the moment writes when his next job begins
			proc.send(control.Message{Kind: control.Ping}.Append(nil))
		}
	}
	if l.mends.may(time.Now()) {
		l.log.Error("the scoreboard was damaged by somebody who can write to it, such as a child; it has been mended", "err", err)
	}
}

// look asks the board who is busy: a hint about each child.
func (l *loop) look() event {
	busy, now := false, monotonic()
	var all []seen
	for slot, proc := range l.processes {
		h, err := l.board.Look(slot)
		if err != nil {
			l.try(err)
			continue
		}
		busy = busy || h.State.Busy()
		s := seen{who: proc.who, busy: h.State.Busy() || h.State == scoreboard.Paused, done: h.Done}
		if h.Deadline != 0 && now > h.Deadline {
			s.overtime = h.Job
		}
		all = append(all, s)
	}
	l.watch.follow(busy)
	return evCensus{all}
}

// show writes the daemon's state to the board if it has changed, and when children are to ring.
func (l *loop) show(now time.Time) {
	a := scoreboard.Attention{Busy: !l.watch.active && l.watch.wanted(), Below: l.pool.below()}
	if a != l.attention {
		l.attention = a
		l.try(l.board.SetAttention(a))
		// Who became busy before the children were told has not rung.
		l.later = append(l.later, evRung{})
	}
	if s := l.pool.status; s != l.shown {
		l.shown = s
		l.try(l.board.SetStatus(s, now))
	}
	l.report(now)
}

// findTime is how long a child may take to say which of its jobs had the client that is gone, before the parent takes it
// from the child's record. It is more than a child needs that can run at all.
const findTime = 50 * time.Millisecond

// swept passes on what the look at the kernel's tables has found. A child knows better which of its jobs had that client,
// how he has left, and whether it was its own doing, so it is asked first.
func (l *loop) swept(ev evSwept) {
	l.watch.looked(ev.err)
	for _, lost := range ev.lost {
		fin := lost.How == netmon.Closed && lost.Proto == "tcp" || lost.How == netmon.HalfClosed
		for slot, proc := range l.processes {
			if proc.pid != lost.PID || fin && proc.under.HalfClose == HalfCloseIgnore {
				continue
			}
			if err := proc.tell(l.Parent, control.Message{Kind: control.Find, Inode: lost.Inode}); err != nil && !gone(err) {
				l.log.Error("cannot reach child", "slot", slot, "pid", proc.pid, "err", err)
			}
			if !fin || proc.under.HalfClose != HalfCloseConfirm { // else nobody but the child can find out
				time.AfterFunc(findTime, func() { l.post(evFound{proc.who, lost}) })
			}
		}
	}
	l.watch.next(ev.took)
}

// found takes it from the record of a child, which may be stopped, that the client of a job has left. One that the child has
// named itself meanwhile is counted once.
func (l *loop) found(ev evFound) event {
	c, ok, err := l.board.Child(ev.slot)
	l.try(err)
	if !ok || l.process(ev.who) == nil || c.Job == 0 || c.Inode != ev.lost.Inode {
		return ev // the record shows another job, or none: the child says it as soon as it can
	}
	d := Disconnect{
		Job: c.Job, Text: c.Text, Proto: ev.lost.Proto, Local: ev.lost.Local, Foreign: ev.lost.Foreign, Path: ev.lost.Path, How: ev.lost.How,
	}
	// The tables show who was connected, and the record whom he spoke for.
	switch client, err := netip.ParseAddrPort(c.Client); {
	case err == nil && sansZone(client) != sansZone(d.Foreign), err != nil && c.Client == onUnix:
		d.Foreign, d.Proxy = client, d.Foreign
	}
	return evGone{ev.who, d}
}

func sansZone(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().WithZone(""), ap.Port())
}
