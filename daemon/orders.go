package daemon

import (
	"errors"
	"fmt"
	"os"

	"github.com/brooddaemon/brood/internal/control"
)

// listen does what the parent says until it dies.
func (c *Child) listen() {
	buf := make([]byte, control.MaxMessage+1)
	for {
		n, err := c.control.Read(buf)
		if err != nil || n == 0 {
			c.orphan()
			return
		}
		m, err := control.Parse(buf[:n])
		if errors.Is(err, control.ErrUnknown) {
			continue
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		switch m.Kind {
		case control.Drain:
			c.dismissed()
			c.drain(fmt.Errorf("%w: %s", ErrDraining, m.Text))
		case control.Leave:
			c.leave()
		case control.Quit:
			c.dismissed()
			c.drain(fmt.Errorf("%w: %s", ErrStopping, m.Text))
			c.evict(ErrStopping, m.Within)
		case control.Evict:
			cause := fmt.Errorf("%w: %s", ErrEvicted, m.Text)
			c.drain(fmt.Errorf("%w: %w", ErrDraining, cause))
			c.evict(cause, m.Within)
		case control.Yield:
			if err := c.acceptor.yield(!m.Leaving); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		case control.Queues:
			if err := c.acceptor.serve(m.Text); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		case control.Revoke:
			c.revoke(m)
		case control.Clear:
			c.judged(m.Serial)
		case control.Ping:
			c.repaint()
			if c.responds() {
				c.tell(control.Message{Kind: control.Alive})
			}
		case control.Find:
			c.eye.find(m)
		}
	}
}

// responds reports whether the main loop is where it should be: at work, waiting for work, or in a loop of its own of
// which nothing is known here.
func (c *Child) responds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.accepted.Load() || c.accepts.Load() > 0 || c.jobs.n > 0 || c.paused || c.drained
}
