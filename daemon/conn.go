package daemon

import (
	"context"
	"crypto/tls"
	"iter"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/scoreboard"
)

// A Conn is a client's connection and the job that runs on it.
//
// It is a net.Conn, and offers what *net.TCPConn and *net.UnixConn do beyond that where callers look for it:
// CloseWrite, ReadFrom and SyscallConn.
//
// If its listener has a certificate (cert and key, see Config.Listen) it speaks TLS: what is read and written is what is said inside.
// The first Read or Write makes the handshake, which may take ten seconds. If its listener wants the PROXY protocol, the header has been
// read before the program gets the connection, and RemoteAddr and LocalAddr are what it tells.
type Conn struct {
	net.Conn
	c       *Child
	secure  *tls.Conn           // nil: the program gets what is on the wire
	sent    atomic.Int64        // bytes
	job     atomic.Pointer[Job] // nil: idle between two requests
	last    atomic.Pointer[Job] // or the one before
	done    atomic.Bool         // no other job begins
	watched bool                // by the eye
	seen    atomic.Bool         // something by the eye, missed or not
	hurt    atomic.Bool         // reading or writing has failed, or come to an end

	inode uint64
	token uint32 // the eye's
	tcp   bool
	peer  netip.AddrPort // of TCP
	from  *childListener
	route // of a client who has come by a proxy
	kind
	shaken    atomic.Bool
	shutWrite atomic.Bool
	closed    sync.Once
	closeErr  error
	asked     sync.Once // for the name of the client's host
	host      atomic.Pointer[string]

	named atomic.Pointer[named]
}

// A kind is how a connection's job begins and ends.
type kind struct {
	first   scoreboard.State // of a job that begins on it
	onClose bool             // closing ends the job
	await   bool             // nobody misses a client who leaves before he has asked for anything
	bare    bool             // the program speaks TLS itself
}

// Conns accepts connections, one at a time, and is busy from the yield to the end of the loop's body; then the
// connection is closed, if the body has not done that.
//
//	for conn := range c.Conns(ctx) {
//		serveOne(conn.Context(), conn)
//	}
//
// It ends when the child drains or ctx ends. Several goroutines may range over it at once; together they run at most
// Concurrency jobs.
func (c *Child) Conns(ctx context.Context) iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for {
			conn, err := c.accept(ctx, func(*childListener) kind { return kind{first: scoreboard.Working} })
			if err != nil {
				return
			}
			if !conn.lend(yield) {
				return
			}
		}
	}
}

func (conn *Conn) lend(yield func(*Conn) bool) bool {
	defer conn.finish()
	return yield(conn)
}

// accept waits for room for a job and then for a connection on any listener, whose client is there and may connect.
func (c *Child) accept(ctx context.Context, of func(*childListener) kind) (*Conn, error) {
	for {
		acc, err := c.take(ctx)
		if err != nil {
			return nil, err
		}
		if conn := c.welcome(acc, of(acc.from)); conn != nil {
			return conn, nil
		}
	}
}

// take waits for room for a job and then for a connection on any listener.
func (c *Child) take(ctx context.Context) (accepted, error) {
	c.accepted.Store(true)
	c.accepts.Add(1)
	defer c.accepts.Add(-1)
	c.Ready()
	for {
		if err := c.acquire(ctx); err != nil {
			return accepted{}, err
		}
		acc, err := c.acceptor.accept(ctx)
		if err == nil {
			return acc, nil
		}
		c.release()
		if err != errYield { // else it waits behind him who waits for the token
			return accepted{}, err
		}
	}
}

// welcome makes a Conn of what has been taken, and begins its job. If the client has left, or may not connect, it gives the room
// back, and returns nil. It reads nothing, but for what a proxy has to say of its client, which it waits for.
func (c *Child) welcome(acc accepted, k kind) *Conn {
	c.accepts.Add(1)
	defer c.accepts.Add(-1)
	if c.rules.Named() { // it may take a while, in which the process must not end
		c.mu.Lock()
		c.finishing++
		c.mu.Unlock()
		defer c.finished()
	}
	if c.skips(acc.fd) {
		unix.Close(acc.fd)
		c.board.Skip()
		c.release()
		return nil
	}
	behind := acc.from.spec.Proxy != ""
	if !behind && !c.rules.Empty() && !c.admits(acc.client()) {
		acc.refuse()
		c.release()
		return nil
	}
	conn, err := c.adopt(acc, k)
	if err != nil {
		// One connection is lost, not the child.
		c.release()
		c.complain("cannot take a connection: %v", err)
		return nil
	}
	if behind && !conn.greet() {
		return nil
	}
	return conn
}

// adopt makes a Conn of an accepted descriptor and begins its job.
func (c *Child) adopt(acc accepted, k kind) (*Conn, error) {
	inode, err := inodeNow(acc.fd)
	if err != nil {
		unix.Close(acc.fd)
		return nil, os.NewSyscallError("statx", err)
	}
	nc, err := c.connOf(acc)
	if err != nil {
		return nil, err
	}
	conn := &Conn{Conn: nc, c: c, inode: inode, tcp: acc.from.tcp, peer: acc.peer, from: acc.from, kind: k}
	behind := acc.from.spec.Proxy != ""
	if behind {
		conn.kind, conn.later = unknownClient, k
	}
	if acc.from.tls != nil && !k.bare {
		conn.secure = tls.Server(nc, acc.from.tls)
	}
	if !behind {
		conn.recallHost()
	}
	j := &Job{state: conn.first, answered: conn.await, token: true}
	conn.launch(j)
	if !behind {
		conn.findHost(j)
	}
	// After the job has begun: what the eye sees has a name then.
	err = c.eye.watch(conn)
	if conn.watched = err == nil; err != nil {
		c.eye.fails(err)
	}
	return conn, nil
}

// Listener returns the name of the listener that the connection came to; see Listener.Name.
func (conn *Conn) Listener() string { return conn.from.name }

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
		return &jobContext{parent: ctx, job: j, of: &j.ctx}
	}
	j := &Job{state: scoreboard.Working, text: text, token: conn.c.borrow()}
	j.request.parent, j.request.job, j.request.of = ctx, j, &j.ctx
	conn.launch(j)
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
	if j = conn.drop(); j != nil {
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
		conn.c.showRecord(j)
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
	if j := conn.drop(); j != nil {
		conn.c.end(j, true)
	}
}

// running returns the job that runs on the connection; nil: none does.
func (conn *Conn) running() *Job { return conn.job.Load() }

// drop takes the job from the connection.
func (conn *Conn) drop() *Job { return conn.job.Swap(nil) }

// Close closes the connection. If it came from one of Listeners its job is over then.
func (conn *Conn) Close() error {
	conn.closed.Do(func() {
		conn.check()
		conn.closeErr = conn.shut()
		conn.c.eye.forget(conn)
		if conn.onClose {
			conn.over()
		}
	})
	return conn.closeErr
}
