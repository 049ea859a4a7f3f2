package daemon

import (
	"fmt"
	"time"
)

// noteUnfinished writes a line into the access log for a child that has ended in the middle of its work: killed for a client who
// has left or a time that was over, evicted, crashed. It cannot do that itself any more. What it was working on is what its slot
// shows last, of several jobs the oldest. A child that has ended its jobs shows none.
func (l *loop) noteUnfinished(ev evExited) {
	if l.access == nil {
		return
	}
	c, ok, err := l.board.Child(ev.slot)
	m := l.pool.find(ev.who)
	switch {
	case err != nil:
		l.try(err)
		return
	case !ok || m == nil || c.Job == 0:
		return
	}
	line := fmt.Appendf(nil, "unfinished job=%d of=%d seconds=%.3f status=%q", c.Job, c.Running, max(time.Since(c.Started), 0).Seconds(), ev.status)
	if why := firstOf(m.end, m.revokedFor); why != "" {
		line = fmt.Appendf(line, " cause=%q", why)
	}
	if c.Client != "" {
		line = fmt.Appendf(line, " client=%q", c.Client)
	}
	line = fmt.Appendf(line, " text=%q", c.Text)
	l.access.Hasty().Write(accessLine(origin{Slot: m.slot, PID: m.pid, Generation: m.generation}, line))
}
