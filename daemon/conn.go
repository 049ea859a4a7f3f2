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

	// Server belongs to the server that has accepted the connection: what it keeps of it, and wants to find without a map. It sets it
	// before another goroutine has the connection. Package serve does; the daemon neither sets it nor looks at it.
	Server any

	c       *Child
	secure  *tls.Conn           // nil: the program gets what is on the wire
	sent    atomic.Int64        // bytes
	job     atomic.Pointer[Job] // nil: idle between two requests
	last    atomic.Pointer[Job] // or the one before
	done    atomic.Bool         // no other job begins
	watched bool                // by the eye
	seen    atomic.Bool         // something by the eye, missed or not
	hurt    atomic.Bool         // reading or writing has failed, or come to an end
	ahead   readAhead

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

// Close closes the connection. If it came from one of Listeners its job is over then.
func (conn *Conn) Close() error {
	conn.closed.Do(func() {
		conn.check()
		conn.closeErr = conn.shut()
		conn.rouse()
		conn.c.eye.forget(conn)
		if conn.onClose {
			conn.over()
		}
	})
	return conn.closeErr
}
