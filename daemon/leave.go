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

// dismissed ends a child that is to go and cannot take work yet.
func (c *Child) dismissed() {
	if !c.inside {
		c.ifUnready(func() { os.Exit(exitFine) })
	}
}

// orphan ends a child whose parent has died: at once if it has no work, else when its work is done, within
// DrainTimeout.
func (c *Child) orphan() {
	if c.inside { // the parent has ended this process's work
		return
	}
	time.AfterFunc(c.cfg.DrainTimeout, func() {
		grace := max(c.cfg.KillGrace, 0)
		c.evict(fmt.Errorf("%w: has drained for %v", ErrEvicted, c.cfg.DrainTimeout), grace)
		time.AfterFunc(grace, c.vanish)
	})
	c.mu.Lock()
	c.orphaned = true
	c.settled.Broadcast()
	c.mu.Unlock()
	c.drain(ErrParentGone)
	if c.turns.mode == SerializeSemaphore {
		semctl(int(c.turns.number), ipcRmid, new(semid)) // nobody accepts any more, and the parent could not do it
	}
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
	idle := c.jobs.n == 0
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

// evict ends all jobs: those that want to hear of it before do so first. within is the time until the child is killed.
func (c *Child) evict(reason error, within time.Duration) {
	deadline := time.Now().Add(within)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evicted = &eviction{reason, deadline}
	for j := range c.jobs.all() {
		j.evict(*c.evicted)
	}
}

// An eviction is why and until when the jobs of a child are to end.
type eviction struct {
	reason   error
	deadline time.Time
}

// evict ends the job's context, after its OnEvict has returned. c.mu is held.
func (j *Job) evict(e eviction) {
	f := j.onEvict
	if f == nil {
		j.cancel(e.reason)
		return
	}
	j.onEvict = nil
	go func() {
		defer j.cancel(e.reason) // whatever becomes of f
		f(e.reason, e.deadline)
	}()
}

// OnEvict has f called when the job is to end for no fault of its own and although its client waits: because the daemon
// stops (the reason is ErrStopping), or because it belongs to old code and has drained for too long (it wraps ErrEvicted).
//
// f may save the job's state. It is called once, on a goroutine of its own, while the job runs on; the job's context ends
// with the reason when f has returned. At the deadline the child is killed. If the job is to end already f is called at
// once. A later OnEvict replaces f; nil takes it back.
func (j *Job) OnEvict(f func(reason error, deadline time.Time)) {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	j.onEvict = f
	if e := j.c.evicted; e != nil && f != nil {
		j.evict(*e)
	}
}
