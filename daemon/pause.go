package daemon

import (
	"fmt"
	"os"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// Pause makes this child accept no more connections until Resume, whatever room it has for jobs: it waits for a database
// to come back, or has more in its hands than it can count in jobs. Connections wait in the queue for other children.
//
// What has been accepted goes on, Do is not held up, and neither is a drain. The scoreboard shows a paused child that has
// no job as such, and the pool does not count it as one that could take work.
func (c *Child) Pause() { c.setPaused(true) }

// Resume takes a Pause back; accepting goes on at once.
func (c *Child) Resume() { c.setPaused(false) }

func (c *Child) setPaused(paused bool) {
	c.pausing.Lock() // one after the other, also when they come from several goroutines
	defer c.pausing.Unlock()
	c.mu.Lock()
	if c.drained || c.paused == paused {
		c.mu.Unlock()
		return
	}
	c.paused = paused
	c.mu.Unlock()
	if err := c.acceptor.pause(paused); err != nil {
		fmt.Fprintf(os.Stderr, "cannot accept any more: %v\n", err)
	}
	if c.turns.mode == SerializeReuseport {
		c.tell(control.Message{Kind: control.Paused, Leaving: paused}) // somebody else is to take its queue
	}
	c.mu.Lock()
	ring := false
	if c.jobs.n == 0 {
		c.board.SetState(c.rest(), time.Now())
		ring = c.board.Attention()
	}
	c.mu.Unlock()
	if ring {
		c.ring()
	}
}

// rest is the state of this child when no job runs. c.mu is held.
func (c *Child) rest() scoreboard.State {
	if c.paused {
		return scoreboard.Paused
	}
	if c.looking > 0 {
		return scoreboard.Reading
	}
	return scoreboard.Idle
}
