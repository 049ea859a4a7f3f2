package daemon

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/netmon"
)

// An eye notices, in the child, that a client has left, some tens of microseconds after it has.
//
// It is an epoll of its own beneath whatever reads from the connections: it reads no byte and takes no lock of theirs,
// so it sees what net/http's request context does not (a body that is not read, a pipelined request, a hijacked
// connection). The epoll itself waits in Go's poller and occupies no thread. The parent's look at the kernel's tables
// is the check on it.
type eye struct {
	c     *Child
	epoll *os.File
	fd    int

	mu    sync.Mutex
	conns map[uint32]*Conn // by token: a descriptor's number is soon another's
	token uint32
	blind bool // the log has been told that this eye cannot look
}

func newEye(c *Child) (*eye, error) {
	f, fd, err := polledEpoll("eye")
	if err != nil {
		return nil, err
	}
	return &eye{c: c, epoll: f, fd: fd, conns: map[uint32]*Conn{}}, nil
}

// polledEpoll makes an epoll that can be waited for in Go's poller.
func polledEpoll(name string) (*os.File, int, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, -1, os.NewSyscallError("epoll_create1", err)
	}
	// An epoll has no use for O_NONBLOCK; Go takes it as the sign that the descriptor can be waited for.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), name), fd, nil
}

// watch begins to look at a connection. What has happened before is seen as well.
func (e *eye) watch(conn *Conn) error {
	e.mu.Lock()
	e.token++
	token := e.token
	conn.token = token
	e.conns[token] = conn
	e.mu.Unlock()
	return conn.control(func(fd int) error {
		return os.NewSyscallError("epoll_ctl", unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
			Events: unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(token),
		}))
	})
}

// fails tells the log, once, that this child has to rely on the parent's look.
func (e *eye) fails(err error) {
	e.mu.Lock()
	told := e.blind
	e.blind = true
	e.mu.Unlock()
	if !told {
		fmt.Fprintf(os.Stderr, "cannot watch connections; the parent's look at the kernel's tables remains: %v\n", err)
	}
}

// forget drops a connection that has been closed here; the kernel has dropped it by itself.
func (e *eye) forget(conn *Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, conn.token)
}

func (e *eye) run() {
	rc, err := e.epoll.SyscallConn()
	if err != nil {
		e.fails(err)
		return
	}
	for rc.Read(func(uintptr) bool { return e.sweep() }) == nil {
	}
}

// sweep acts on all that the kernel has to tell by now, of whatever connections. It reports whether there was anything.
//
// Who asks about one connection at the end of its job asks for all of them so: that costs less than to ask the kernel about the one. When
// it returns, the connections of which anything has been told before it was called are marked as seen, whoever the kernel has told.
func (e *eye) sweep() (found bool) {
	for {
		n := e.glance()
		found = found || n > 0
		if n < atOnce {
			return found
		}
	}
}

// atOnce is of how many connections the kernel tells at once.
const atOnce = 16

// glance is sweep for some of them. It returns how many there were.
func (e *eye) glance() int {
	var events [atOnce]unix.EpollEvent
	var conns [atOnce]*Conn
	e.mu.Lock()
	n := epollNow(e.fd, events[:])
	for i, ev := range events[:n] {
		if conns[i] = e.conns[uint32(ev.Fd)]; conns[i] != nil {
			conns[i].seen.Store(true) // first: whoever begins to miss him looks for it after he has
			conns[i].rouse()
		}
	}
	e.mu.Unlock()
	for i, conn := range conns[:n] {
		if conn != nil {
			e.judge(conn, events[i].Events)
		}
	}
	return n
}

// judge acts on what the kernel tells of a connection.
func (e *eye) judge(conn *Conn, events uint32) {
	how, ok := conn.judge(events)
	switch {
	case !ok:
	case events&notFIN != 0:
		e.report(conn, how)
	default:
		e.fin(conn, how)
	}
}

// judge says how the client has left, if it has; events without any of notFIN mean that it has sent FIN, no more.
func (conn *Conn) judge(events uint32) (How, bool) {
	hup, fail := events&unix.EPOLLHUP != 0, events&unix.EPOLLERR != 0
	switch {
	case events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0:
		return 0, false
	case fail:
		if info := conn.info(); conn.tcp && info != nil && silent(info, conn.c.cfg.ClientTimeout) {
			return netmon.TimedOut, true
		}
		return netmon.Reset, true
	case !conn.tcp && hup:
		return netmon.Closed, !conn.shutWrite.Load()
	case !conn.tcp:
		return netmon.HalfClosed, true
	case hup:
		// Both directions have ended. Either this side had shut down its own first, then all is in order; or it was a
		// reset whose error somebody has read before.
		return netmon.Reset, !conn.shutWrite.Load()
	}
	// The client's FIN, or this process's own shutdown of reading: the state tells.
	info := conn.info()
	return netmon.Closed, info != nil && info.State == unix.BPF_TCP_CLOSE_WAIT
}

// poll asks what the eye's epoll would tell now.
func (conn *Conn) poll() (events uint32) {
	conn.control(func(fd int) error {
		events = hangUps(fd)
		return nil
	})
	return events
}

// info asks the kernel about a TCP connection; nil if it does not say.
func (conn *Conn) info() (info *unix.TCPInfo) {
	conn.control(func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info
}

// report tells the parent that the client of the job on conn has left. Without a job nobody is told now: if one begins
// nevertheless, that looks again.
func (e *eye) report(conn *Conn, how How) {
	if j := conn.running(); j != nil {
		e.reportJob(j, how)
	}
}

// reportJob is report for a job that may be over by now.
func (e *eye) reportJob(j *Job, how How) {
	e.c.mu.Lock()
	if j.reported || j.answered || !e.c.jobs.has(j) {
		e.c.mu.Unlock()
		return
	}
	j.reported = true
	text := j.text
	e.c.mu.Unlock()
	m := control.Message{Kind: control.Gone, Serial: j.serial, How: uint8(how), Inode: j.conn.inode}
	var path string
	m.Local, m.Foreign, path = j.conn.endpoints()
	if client, proxied := j.conn.proxied(); proxied {
		m.Foreign, m.Proxy = client, m.Foreign
	}
	m.Text = path + "\x00" + text
	e.c.tell(m)
}

// find answers the parent, who has seen in the kernel's tables that a connection of this child was lost.
func (e *eye) find(m control.Message) {
	e.mu.Lock()
	var found *Conn
	for _, conn := range e.conns {
		if conn.inode == m.Inode {
			found = conn
		}
	}
	e.mu.Unlock()
	if found != nil {
		found.rouse()
		e.judge(found, found.poll()) // which knows what this side has done itself
	}
}

// complainEveryChild limits how often a child says that it is in trouble.
const complainEveryChild = time.Second

// complain writes to standard error, and so to the error log, at most once a second.
func (c *Child) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.complained) >= complainEveryChild {
		c.complained = now
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}
