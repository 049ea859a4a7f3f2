package daemon

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/scoreboard"
)

// A Conn is a client's connection and the job that runs on it.
//
// It is a net.Conn, and offers what *net.TCPConn and *net.UnixConn do beyond that where callers look for it:
// CloseWrite, ReadFrom and SyscallConn.
type Conn struct {
	net.Conn
	c         *Child
	inode     uint64
	token     uint32 // the eye's
	tcp       bool
	first     scoreboard.State // of a job that begins on it
	onClose   bool             // closing ends the job
	shutWrite atomic.Bool
	closed    sync.Once
	closeErr  error

	mu   sync.Mutex
	job  *job // nil: idle between two requests
	ctx  context.Context
	left *How // the client has left and no job was running
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
			conn, err := c.accept(ctx, c.everything, scoreboard.Working, false)
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

// accept waits for room for a job and then for a connection on one of a's listeners.
func (c *Child) accept(ctx context.Context, a *acceptor, first scoreboard.State, onClose bool) (*Conn, error) {
	c.Ready()
	for {
		if err := c.acquire(ctx); err != nil {
			return nil, err
		}
		fd, l, err := a.accept(ctx)
		if err != nil {
			c.release()
			return nil, err
		}
		conn, err := c.adopt(fd, l, first, onClose)
		if err != nil {
			// One connection is lost, not the child.
			c.release()
			c.complain("cannot take a connection: %v", err)
			continue
		}
		return conn, nil
	}
}

// adopt makes a Conn of an accepted descriptor and begins its job.
func (c *Child) adopt(fd int, l *childListener, first scoreboard.State, onClose bool) (*Conn, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fstat", err)
	}
	f := os.NewFile(uintptr(fd), "connection")
	nc, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, err
	}
	conn := &Conn{Conn: nc, c: c, inode: st.Ino, tcp: l.tcp, first: first, onClose: onClose}
	j := c.begin(context.Background(), conn, "", true)
	conn.job, conn.ctx = j, j.ctx
	// After the job has begun: what the eye sees has a name then.
	if err := c.eye.watch(conn); err != nil {
		c.complain("cannot watch a connection: %v", err)
	}
	return conn, nil
}

// Context returns the context of the job that runs on the connection. It ends when the client has left and the policy
// says so (the cause is ErrClientGone), when the daemon stops at once (ErrStopping), or when the job is over.
func (conn *Conn) Context() context.Context {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	return conn.ctx
}

// Describe says on the scoreboard what the job on this connection is, cut at 192 bytes.
func (conn *Conn) Describe(text string) {
	conn.mu.Lock()
	j := conn.job
	conn.mu.Unlock()
	if j != nil {
		conn.c.describe(j, text)
	}
}

// Idle ends the job and keeps the connection open, for a protocol in which a client may ask again: an idle client does
// not count against Concurrency. Without a running job it does nothing.
func (conn *Conn) Idle() {
	if j := conn.drop(); j != nil {
		// A connection on which nothing has been asked yet was no job.
		conn.c.end(j, j.state != scoreboard.Reading)
	}
}

// Busy begins another job on the connection after Idle. It does not wait: a request that is already here is served even
// if the child then runs more jobs than its Concurrency. With a running job it does nothing.
func (conn *Conn) Busy() {
	conn.mu.Lock()
	if conn.job != nil {
		conn.mu.Unlock()
		return
	}
	conn.mu.Unlock()
	j := conn.c.begin(context.Background(), conn, "", conn.c.borrow())
	conn.mu.Lock()
	conn.job, conn.ctx = j, j.ctx
	left := conn.left
	conn.left = nil
	conn.mu.Unlock()
	if left != nil {
		conn.c.eye.report(conn, *left)
	}
}

// Finish says that the job's work is done: a client that leaves from here on was served. If it has left before, that
// is told now, so that no lost client goes unnoticed because the job happened to end at the same moment.
//
// Call it in a server of your own before Close or Idle; Conns and package serve do.
func (conn *Conn) Finish() {
	conn.mu.Lock()
	j := conn.job
	conn.mu.Unlock()
	if j == nil {
		return
	}
	if how, ok := conn.judge(conn.poll()); ok {
		conn.c.eye.report(conn, how)
	}
	conn.c.mu.Lock()
	j.answered = true
	conn.c.mu.Unlock()
}

// finish closes the connection and ends its job.
func (conn *Conn) finish() {
	conn.Finish()
	conn.Close()
	conn.over()
}

// over ends the connection's last job.
func (conn *Conn) over() {
	if j := conn.drop(); j != nil {
		conn.c.end(j, true)
	}
}

// drop takes the job from the connection.
func (conn *Conn) drop() *job {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	j := conn.job
	conn.job = nil
	return j
}

// Close closes the connection. If it came from one of Listeners its job is over then.
func (conn *Conn) Close() error {
	conn.closed.Do(func() {
		conn.closeErr = conn.Conn.Close()
		conn.c.eye.forget(conn)
		if conn.onClose {
			conn.over()
		}
	})
	return conn.closeErr
}

// CloseWrite shuts down the writing side.
func (conn *Conn) CloseWrite() error {
	conn.shutWrite.Store(true)
	if cw, ok := conn.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("close write %T: %w", conn.Conn, unix.EOPNOTSUPP)
}

// ReadFrom copies from r to the connection, inside the kernel where it can.
func (conn *Conn) ReadFrom(r io.Reader) (int64, error) {
	if rf, ok := conn.Conn.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{conn.Conn}, r)
}

// SyscallConn gives access to the descriptor.
func (conn *Conn) SyscallConn() (syscall.RawConn, error) {
	return conn.Conn.(syscall.Conn).SyscallConn()
}

// endpoints returns both addresses of a TCP connection, and the path of a Unix one.
func (conn *Conn) endpoints() (local, foreign netip.AddrPort, path string) {
	if l, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		return unmap(l.AddrPort()), unmap(conn.RemoteAddr().(*net.TCPAddr).AddrPort()), ""
	}
	return local, foreign, conn.LocalAddr().String()
}

func unmap(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func (conn *Conn) clientName() string {
	if _, foreign, path := conn.endpoints(); path == "" {
		return foreign.String()
	}
	return "unix"
}

// Listeners returns one net.Listener for each address that the daemon is bound to, in order, for libraries that accept
// themselves.
//
// Accept waits while the child runs as many jobs as its Concurrency. The connection is a *Conn; its job begins with
// Accept and ends with Close. Accept returns net.ErrClosed when the child drains.
func (c *Child) Listeners() ([]net.Listener, error) {
	var ls []net.Listener
	for _, l := range c.listeners {
		a, err := c.newAcceptor([]*childListener{l})
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(context.Background())
		ls = append(ls, &sharedListener{a, l.addr, ctx, cancel})
	}
	return ls, nil
}

// A sharedListener is an inherited listener as a net.Listener.
type sharedListener struct {
	a      *acceptor
	addr   net.Addr
	ctx    context.Context
	cancel context.CancelFunc
}

func (l *sharedListener) Accept() (net.Conn, error) {
	conn, err := l.a.c.accept(l.ctx, l.a, scoreboard.Reading, true)
	if err != nil {
		if l.ctx.Err() != nil || l.a.c.isDraining() {
			err = net.ErrClosed
		}
		return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: err}
	}
	return conn, nil
}

// Close makes Accept return. The socket stays open for the other children.
func (l *sharedListener) Close() error {
	l.cancel()
	return nil
}

func (l *sharedListener) Addr() net.Addr { return l.addr }
