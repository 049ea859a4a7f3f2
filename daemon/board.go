package daemon

import (
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

// swept passes on what the look at the kernel's tables has found.
func (l *loop) swept(ev evSwept) {
	if ev.err != nil {
		l.watch.complain(ev.err)
	}
	for _, lost := range ev.lost {
		fin := lost.How == netmon.Closed && lost.Proto == "tcp" || lost.How == netmon.HalfClosed
		if fin && l.cfg.HalfClose == HalfCloseIgnore {
			continue
		}
		// Whether the client has left is for the child to find out, then.
		asks := fin && l.cfg.HalfClose == HalfCloseConfirm
		for slot, proc := range l.processes {
			if proc.pid != lost.PID {
				continue
			}
			hint, err := l.board.Look(slot)
			if !asks && err == nil && hint.Job != 0 && hint.Inode == lost.Inode {
				l.later = append(l.later, evGone{proc.who, Disconnect{
					Job: hint.Job, Proto: lost.Proto, Local: lost.Local, Foreign: lost.Foreign, Path: lost.Path, How: lost.How,
				}})
				break
			}
			// Else the record shows another of its jobs, if any: the child knows which one runs on that connection.
			if err := proc.tell(control.Message{
				Kind: control.Find, Inode: lost.Inode, Local: lost.Local, Foreign: lost.Foreign, How: uint8(lost.How),
			}); err != nil && !gone(err) {
				l.log.Error("cannot reach child", "slot", slot, "pid", proc.pid, "err", err)
			}
		}
	}
	l.watch.next(ev.took)
}
