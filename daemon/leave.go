package daemon

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/tree"
)

// orphanGrace is how long a child without work may take to leave once its parent has died.
const orphanGrace = 500 * time.Millisecond

// endGroup kills this process's group, and this process with it: nobody else is left to do that.
func endGroup() {
	if unix.Getpgrp() == os.Getpid() {
		unix.Kill(0, unix.SIGKILL)
	}
}

// orphan ends a child whose parent has died: at once if it has no work, else when its work is done, within
// DrainTimeout.
func (c *Child) orphan() {
	time.AfterFunc(c.cfg.DrainTimeout, c.vanish)
	c.mu.Lock()
	c.orphaned = true
	c.settled.Broadcast()
	c.mu.Unlock()
	c.drain(ErrParentGone)
	c.mu.Lock()
	for c.finishing > 0 {
		c.idle.Wait()
	}
	c.mu.Unlock()
	// The main loop and ChildFinish get a moment to return by themselves.
	time.Sleep(orphanGrace)
	c.vanish()
}

// sweep ends what the jobs of this child have left behind: nobody else knows it as exactly.
func (c *Child) sweep() {
	if err := tree.Sweep(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot end what jobs have left behind: %v\n", err)
	}
}

// vanish ends this process and those that its jobs have left behind.
func (c *Child) vanish() {
	c.sweep()
	endGroup()
	os.Exit(exitFailed)
}

// drain makes the child take no more work: nothing is accepted, and the main loop's context ends.
func (c *Child) drain(cause error) {
	c.mu.Lock()
	if c.drained {
		c.mu.Unlock()
		return
	}
	c.drained = true
	close(c.draining)
	c.mu.Unlock()
	c.acceptor.close()
	if !errors.Is(cause, ErrDraining) {
		cause = fmt.Errorf("%w: %w", ErrDraining, cause)
	}
	c.cancel(cause)
}

// leave drains the child if no job runs. A connection that is accepted at this very moment is still served.
func (c *Child) leave() {
	c.mu.Lock()
	idle := len(c.jobs) == 0
	c.mu.Unlock()
	c.tell(control.Message{Kind: control.Parting, Leaving: idle})
	if idle {
		c.drain(ErrDraining)
	}
}

func (c *Child) isDraining() bool {
	select {
	case <-c.draining:
		return true
	default:
		return false
	}
}

func (c *Child) cancelAll(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.jobs {
		j.cancel(cause)
	}
}
