package daemon

import (
	"context"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// Context returns the context of the job that runs on the connection. It ends when the client has left and the policy
// says so (the cause is ErrClientGone), when the daemon stops at once (ErrStopping), or when the job is over.
func (conn *Conn) Context() context.Context {
	return &conn.last.Load().ctx
}

// With returns ctx as a context of the job that runs on the connection: JobOf finds the job in it, and it ends with the
// job's context, too. Call the returned function when the work is done.
func (conn *Conn) With(ctx context.Context) (context.Context, context.CancelFunc) {
	j := conn.last.Load()
	with := &jobContext{parent: ctx, job: j, of: &j.ctx}
	return with, func() { with.end(context.Canceled) }
}

// Describe says on the scoreboard what the job on this connection is, cut at 192 bytes. After Finish it says that there
// is work again, and after Idle another job begins with it. It does not wait then: a request that is already here is served even if the
// child runs more jobs than its Concurrency. One goroutine at a time may call it, Begin and Idle. Once the connection is closed and its
// job over none begins.
func (conn *Conn) Describe(text string) {
	if j := conn.running(); j != nil {
		conn.c.describe(j, text)
	} else {
		conn.launch(&Job{state: scoreboard.Working, text: text, token: conn.c.borrow()})
	}
	conn.recall() // he may have sent his request and left before it was looked at
}

// Begin is Describe for a request whose context is ctx, in a protocol that has one at a time on a connection, and returns a context as
// With does, which ends with the job: call Idle, or Close, when the work is done.
func (conn *Conn) Begin(ctx context.Context, text string) context.Context {
	if j := conn.running(); j != nil {
		conn.Describe(text)
		conn.ahead.arm(j)
		return &jobContext{parent: ctx, job: j, of: &j.ctx}
	}
	j := &Job{state: scoreboard.Working, text: text, token: conn.c.borrow()}
	j.request.parent, j.request.job, j.request.of = ctx, j, &j.ctx
	conn.launch(j)
	conn.ahead.arm(j)
	conn.recall()
	return &j.request
}

// Idle ends the job and keeps the connection open, for a protocol in which a client may ask again: an idle client does
// not count against Concurrency. Describe or Begin begins the next one. Without a running job it does nothing.
//
// If the client has left before, that is told now, as by Finish; but nobody asks after a job that took less than a millisecond, in which
// nothing was amiss with the connection: who was not missed by then is taken for one that has left with his answer.
func (conn *Conn) Idle() {
	j := conn.running()
	if j == nil {
		return
	}
	now := time.Now()
	if conn.hurt.Load() || now.Sub(j.started) >= brief {
		conn.check()
	}
	j = conn.drop()
	conn.rouse()
	if j != nil {
		// A connection on which nothing has been asked yet was no job.
		conn.c.endAt(j, j.state != scoreboard.Reading, now)
	}
}

// brief is how long a job may take that leaves nobody to be sorry for: to ask for its client takes a system call, of the ten or so of a
// request.
const brief = time.Millisecond

// launch has a job run on the connection, unless that is over.
func (conn *Conn) launch(j *Job) {
	j.c, j.conn, j.sentBefore, j.ctx.parent = conn.c, conn, conn.sent.Load(), context.Background()
	conn.c.launch(j)
	conn.last.Store(j)
	conn.job.Store(j)
	if conn.done.Load() && conn.job.CompareAndSwap(j, nil) { // meanwhile, or before
		conn.c.end(j, false)
	}
}

// Finish says that the job's work is done: a client that leaves from here on was served. If it has left before, that
// is told now, so that no lost client goes unnoticed because the job happened to end at the same moment.
//
// Call it in a server of your own before Close or Idle; Conns and package serve do.
func (conn *Conn) Finish() {
	conn.check()
	conn.Await()
}

// recall tells whether the client had left before anybody missed him. The eye tells a thing once; what it has not seen yet it sees now
// that he is missed, or else check does when the job is over.
func (conn *Conn) recall() {
	if conn.seen.Load() || !conn.watched {
		conn.check()
	}
}

// check tells whether the client has left by now.
func (conn *Conn) check() {
	if !conn.expected() { // nobody would be told, and nobody need be asked
		return
	}
	e := conn.c.eye
	if conn.watched && !conn.seen.Load() {
		e.sweep()
	}
	if !conn.watched || conn.seen.Load() {
		e.judge(conn, conn.poll())
	}
}

// expected reports whether the client is missed if he leaves now.
func (conn *Conn) expected() bool {
	j := conn.running()
	if j == nil {
		return false
	}
	conn.c.mu.Lock()
	defer conn.c.mu.Unlock()
	return !j.answered
}

// Await says that the job waits for its client, who has not asked for anything, or not again: when he leaves he is not
// missed. Describe ends that.
func (conn *Conn) Await() {
	j := conn.running()
	if j == nil {
		return
	}
	conn.c.mu.Lock()
	defer conn.c.mu.Unlock()
	j.answered = true
	if conn.c.shown == j.serial {
		conn.c.board.Show(j.record())
	}
}

// finish closes the connection and ends its job.
func (conn *Conn) finish() {
	conn.Finish()
	conn.Close()
	conn.over()
}

// over ends the connection's last job.
func (conn *Conn) over() {
	conn.done.Store(true)
	j := conn.drop()
	conn.rouse()
	if j != nil {
		conn.c.end(j, true)
	}
}

// running returns the job that runs on the connection; nil: none does.
func (conn *Conn) running() *Job { return conn.job.Load() }

// drop takes the job from the connection.
func (conn *Conn) drop() *Job { return conn.job.Swap(nil) }
