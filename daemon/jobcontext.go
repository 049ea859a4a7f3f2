package daemon

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A jobContext is the context of a job, or of work that is done for one. What somebody can wait for is made when somebody does: most
// jobs are over before that, and it would take a short one more time than all else that is kept of it.
type jobContext struct {
	parent context.Context // has its values, and ends it; that of a job itself never ends
	job    *Job
	of     *jobContext // the job's own, which ends it, too; nil: this is the job's own

	mu    sync.Mutex
	cause error                       // why it was ended before it was waited for; nil: it was not
	made  atomic.Pointer[madeContext] // nil: nobody has waited for it
}

// A madeContext stands for a jobContext from when it is first waited for.
type madeContext struct {
	context.Context
	cancel context.CancelCauseFunc
	stop   func() bool // following the job's own
}

// end ends it; only the first cause holds.
func (c *jobContext) end(cause error) {
	c.mu.Lock()
	m := c.made.Load()
	if m == nil && c.cause == nil {
		c.cause = cause
		if first := c.before(); first != nil {
			c.cause = first
		}
	}
	c.mu.Unlock()
	if m == nil {
		return
	}
	if m.stop != nil {
		m.stop()
	}
	m.cancel(cause)
}

// before returns the cause with which it has ended with something else: if with both, and nobody has looked in between, that of the job
// says more. nil: it has not.
func (c *jobContext) before() error {
	if c.of != nil {
		if why := c.of.why(); why != nil {
			return why
		}
	}
	return context.Cause(c.parent)
}

// why returns the cause with which a job's own context has ended; nil: it has not.
func (c *jobContext) why() error {
	if m := c.made.Load(); m != nil {
		return context.Cause(m.Context)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.made.Load(); m != nil {
		return context.Cause(m.Context)
	}
	return c.cause
}

// ended reports whether it has.
func (c *jobContext) ended() bool { return c.before() != nil || c.why() != nil }

// make returns what can be waited for.
func (c *jobContext) make() *madeContext {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.made.Load(); m != nil {
		return m
	}
	m := &madeContext{}
	why := c.cause
	if why == nil {
		why = c.before()
	}
	if why != nil {
		m.Context, m.cancel = context.WithCancelCause(context.WithoutCancel(c.parent))
		m.cancel(why)
	} else {
		m.Context, m.cancel = context.WithCancelCause(c.parent)
		if c.of != nil {
			m.stop = context.AfterFunc(c.of, func() { m.cancel(context.Cause(c.of)) })
		}
	}
	c.made.Store(m)
	return m
}

// Deadline is the parent's.
func (c *jobContext) Deadline() (time.Time, bool) { return c.parent.Deadline() }

// Done is what somebody waits for.
func (c *jobContext) Done() <-chan struct{} { return c.make().Done() }

// Err tells whether it has ended.
func (c *jobContext) Err() error {
	if c.made.Load() == nil && !c.ended() {
		return nil
	}
	return c.make().Err() // what has ended it first holds from now on
}

// Value finds the job, and what the parent has. Package context looks here for the cause, too, and after Done for who else ends with
// it: that is what has been made.
func (c *jobContext) Value(key any) any {
	if key == (jobKey{}) {
		return c.job
	}
	if m := c.made.Load(); m != nil {
		return m.Value(key)
	}
	if c.ended() {
		return c.make().Value(key)
	}
	return c.parent.Value(key)
}

// String is what package context says of contexts.
func (c *jobContext) String() string { return fmt.Sprintf("%v.WithJob(%d)", c.parent, c.job.serial) }
