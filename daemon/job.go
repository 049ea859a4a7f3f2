package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// once is what is written to an eventfd: a number in the machine's own order (eventfd(2)).
var once = binary.NativeEndian.AppendUint64(nil, 1)

// A Job is one unit of work: a connection, a request, or what Do was given.
type Job struct {
	c         *Child
	serial    uint64
	older     *Job // the one that runs and began before; nil: there is none
	newer     *Job
	ctx       jobContext
	request   jobContext // of what it was begun for, if that has one: the job may outlive it
	conn      *Conn      // nil: a job without one
	text      string
	state     scoreboard.State
	started   time.Time
	cancelled bool
	fatal     bool      // the child leaves with this job
	token     bool      // counts against Concurrency
	answered  bool      // its work is done: from now on the client may leave
	asked     bool      // it has been, or is being, found out what his FIN means
	reported  bool      // the parent has been told that the client has left
	judged    bool      // and has said what follows
	limit     *jobLimit // nil: it has none
	onEvict   func(reason error, deadline time.Time)

	entries    *Entry // of the access log that end with it, the last first
	sentBefore int64  // bytes on the connection before the job
}

// Do runs a job that has no connection: a queue item, a timer's work. text says on the scoreboard what it is.
//
// It waits until the child runs fewer jobs than its Concurrency. It returns ErrDraining, without calling fn, if the
// child takes no more work, ctx's error if that ends first, and else what fn returns. The context that fn gets ends
// with ctx, but not with the main loop's context: that one says that the child should take no more work, and a job
// that runs is to be finished. It does end when the daemon stops at once.
func (c *Child) Do(ctx context.Context, text string, fn func(ctx context.Context) error) error {
	c.Ready()
	// Who waits for a connection holds a token meanwhile, and gives it away if he is asked.
	c.claims.Add(1)
	c.acceptor.interrupt()
	err := c.acquire(ctx)
	c.claims.Add(-1)
	if err != nil {
		return err
	}
	j := &Job{c: c, text: text, state: scoreboard.Working, token: true}
	j.ctx.parent = context.WithoutCancel(ctx)
	c.launch(j)
	defer c.end(j, true)
	stop := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); !errors.Is(cause, ErrDraining) {
			j.cancel(cause)
		}
	})
	defer stop()
	return fn(&j.ctx)
}

// acquire takes a token: room for one more job.
func (c *Child) acquire(ctx context.Context) error {
	if c.isDraining() {
		return ErrDraining
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.borrow() { // most often, and a select of several cases costs ten times as much
		return nil
	}
	select {
	case c.tokens <- struct{}{}:
		return nil
	case <-c.draining:
		return ErrDraining
	case <-ctx.Done():
		return ctx.Err()
	}
}

// borrow takes a token if there is one. A job begun without one gives none back.
func (c *Child) borrow() bool {
	select {
	case c.tokens <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c *Child) release() { <-c.tokens }

// launch has a job run, whose state is known, and the parent of its context, which never ends.
func (c *Child) launch(j *Job) {
	j.started, j.ctx.job = time.Now(), j
	c.mu.Lock()
	c.serial++
	j.serial = c.serial
	j.setLimit(c.cfg.JobTimeout) // its timers name the job
	c.jobs.add(j)
	c.finishing++
	c.weighOn()
	c.showAt(j.started)
	ring := c.jobs.n == 1 && c.board.Attention() // else it was busy before
	c.mu.Unlock()
	if ring {
		c.ring()
	}
	if c.tellsJobs && (j.conn == nil || !j.conn.await) {
		c.enterOwn(j)
	}
}

// cancel ends the job's context.
func (j *Job) cancel(cause error) { j.ctx.end(cause) }

// ring wakes the parent.
func (c *Child) ring() {
	// It is full only if nobody listens.
	writeNow(c.bell, once)
}

// verdictWait is how long the end of a job whose client has left is held back until the parent says what follows.
// A test makes it shorter, so that verdicts come late.
var verdictWait = time.Second

// end finishes a job, which counts as done or not, and gives its token back.
//
// If the client left while the job ran, the parent's verdict is waited for, even if the job has come to its end by
// itself: the policy may want the child to end, with what the job has left behind in it.
func (c *Child) end(j *Job, counts bool) { c.endAt(j, counts, time.Now()) }

// endAt is end for those who know what time it is.
func (c *Child) endAt(j *Job, counts bool, now time.Time) {
	c.mu.Lock()
	if j.reported && !j.judged {
		late := time.AfterFunc(verdictWait, func() { c.judged(j.serial) })
		for !j.judged && !c.orphaned {
			c.settled.Wait()
		}
		late.Stop()
		now = time.Now()
	}
	for j.entries != nil { // with the verdict, and while it still counts as running
		c.mu.Unlock()
		c.endEntries(j, counts)
		c.mu.Lock()
	}
	c.jobs.remove(j)
	cause := j.revokedFor()
	j.setLimit(0)
	first, spent := false, false
	if counts {
		c.done++
		first, spent = c.done == 1, c.done == c.enough
	}
	c.showAt(now)
	if j.fatal {
		// The child leaves: its token is kept, nothing more is begun.
		c.mu.Unlock()
		j.cancel(context.Canceled)
		c.tell(control.Message{Kind: control.Settled, Serial: j.serial, Leaving: true})
		c.drain(cause)
		c.finished()
		return
	}
	// The parent may be about to kill this child for the sake of this very job, and the word of that may still be on its
	// way. Then no other job is begun until the matter is settled.
	for told := false; c.board.Revoked() == j.serial && !c.orphaned; c.settled.Wait() {
		if !told {
			told = true
			c.tell(control.Message{Kind: control.Settled, Serial: j.serial})
		}
	}
	j.cancel(context.Canceled)
	c.finish()
	c.mu.Unlock()
	if first {
		c.tell(control.Message{Kind: control.Proven})
	}
	if spent {
		c.tell(control.Message{Kind: control.Spent, Text: "has done as many jobs as it may"})
	} else if counts {
		c.weigh()
	}
	if j.token {
		c.release()
	}
}

// finished lets the process end if this was the last job of a draining child.
func (c *Child) finished() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish()
}

// finish is finished; c.mu is held.
func (c *Child) finish() {
	c.finishing--
	c.idle.Broadcast()
}

// show writes what the child is doing to the scoreboard. c.mu is held.
func (c *Child) show() { c.showAt(time.Now()) }

// showAt is show for those who know what time it is.
func (c *Child) showAt(now time.Time) {
	w := scoreboard.Work{Since: now, Running: c.jobs.n, Done: uint64(c.done)}
	j := c.jobs.oldest
	if j == nil {
		c.shown, w.State = 0, c.rest()
	} else {
		c.shown, w.State, w.Job = j.serial, j.state, j.record()
		if j.cancelled {
			w.State = scoreboard.Cancelling
		}
	}
	c.board.SetWork(w)
}

// record is what the scoreboard says of a job. c.mu is held.
func (j *Job) record() scoreboard.Record {
	rec := scoreboard.Record{Serial: j.serial, Started: j.started, Text: j.text}
	if j.limit != nil {
		rec.Deadline = j.limit.deadline
	}
	if j.conn != nil {
		rec.Client = j.conn.clientName()
		if !j.answered && !j.conn.shutWrite.Load() { // who leaves now was served, whoever sees it
			rec.Inode = j.conn.inode
		}
	}
	return rec
}

// repaint writes what the child is doing once more, if the scoreboard has lost it.
func (c *Child) repaint() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.board.Blank() {
		return
	}
	c.show()
	if a := c.acceptor; a != nil && a.duty != nil {
		a.duty.repeat()
	}
}

// redraw writes what the child is doing once more, if that is j.
func (c *Child) redraw(j *Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shown == j.serial {
		c.show()
	}
}

// describe changes what the scoreboard says of a job.
func (c *Child) describe(j *Job, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j.text, j.state, j.answered = text, scoreboard.Working, false
	if c.shown == j.serial {
		c.show()
	}
}

// judged notes that the parent has said all it wants to about a job, and wakes those who wait for that or for a
// revocation to be cleared.
func (c *Child) judged(serial uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.jobs.find(serial); j != nil {
		j.judged = true
	}
	c.settled.Broadcast()
}

// revoke cancels a job whose client has left, or whose time is over; with Kill the child ends with it.
func (c *Child) revoke(m control.Message) {
	c.mu.Lock()
	j := c.jobs.find(m.Serial)
	cause := ErrClientGone
	if j != nil {
		cause = j.revokedFor()
		j.cancelled, j.judged = true, true
		j.fatal = j.fatal || m.Kill
		j.cancel(cause)
		c.show()
		c.settled.Broadcast()
	}
	c.mu.Unlock()
	switch {
	case j == nil && m.Kill:
		c.tell(control.Message{Kind: control.Settled, Serial: m.Serial})
	case j != nil && m.Kill:
		c.drain(cause)
	}
}

// revokedFor is why a job is to end that is revoked: of one whose time is over the parent may say so before its timer does.
// c.mu is held.
func (j *Job) revokedFor() error {
	if j.limit != nil && monotonic() >= j.limit.deadline {
		return ErrJobTimeout
	}
	return ErrClientGone
}
