package daemon

import (
	"cmp"
	"fmt"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// noteUnfinished sees to it that the jobs of a child that has ended in the middle of its work stand in the access log: it was killed
// for a client who has left or a time that was over, evicted, or has crashed. It cannot do that itself any more. With a format of
// the toolkit's all its jobs are known; with a program's own lines one is, of several the oldest: what the slot shows last.
func (l *loop) noteUnfinished(ev evExited, proc *process) {
	m := l.pool.find(ev.who)
	if l.access == nil || m == nil {
		return
	}
	c, ok, err := l.board.Child(ev.slot)
	if err != nil {
		l.try(err)
		ok = false
	}
	ok = ok && c.Job != 0
	if l.cfg.AccessFormat == AccessOwn {
		if ok {
			l.writeUnfinished(ev, m, c)
		}
		return
	}
	d := m.deathOf(ev.status)
	if ok {
		d.Lines = map[uint64]string{c.Job: c.Text}
	}
	proc.ledger.bury(d)
}

// deathOf tells how a child's jobs have ended with it. The pool has not dealt with its end yet.
func (m *member) deathOf(status string) death {
	d := death{At: time.Now(), Status: status, Cause: m.end, End: endDied}
	if m.phase != phaseKilling {
		if m.evicted && m.end != "" {
			d.End = endEvicted
		}
	} else if d.End = endKilled; m.evicted {
		d.End = endEvicted
	}
	// Its end was that of a job, which has not obeyed.
	if m.revokedFor != "" && m.end == m.revokedFor {
		d.Job, d.JobEnd = m.revokedJob, endKilledGone
		if m.late == m.revokedJob {
			d.JobEnd = endKilledTimeout
		}
	}
	if d.Cause == "" {
		d.Cause = m.revokedFor
	}
	return d
}

func (l *loop) writeUnfinished(ev evExited, m *member, c scoreboard.Child) {
	line := fmt.Appendf(nil, "unfinished job=%d of=%d seconds=%.3f status=%q", c.Job, c.Running, max(time.Since(c.Started), 0).Seconds(), ev.status)
	if why := cmp.Or(m.end, m.revokedFor); why != "" {
		line = fmt.Appendf(line, " cause=%q", why)
	}
	if c.Client != "" {
		line = fmt.Appendf(line, " client=%q", c.Client)
	}
	line = fmt.Appendf(line, " text=%q", c.Text)
	from := origin{Slot: m.slot, PID: m.pid, Generation: m.generation}
	l.access.Hasty().Write(AccessOwn.ownLine(from, line, time.Now()))
}
