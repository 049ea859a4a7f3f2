package daemon

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A socket is an accepted TCP connection as a net.Conn that offers what *net.TCPConn does for Conn. To make one of those package
// net would duplicate the descriptor, ask the kernel for what accept(2) has told, and set options that are inherited: eighteen
// system calls for each connection, which is a good part of what a short request takes.
//
// Go's poller hears of it when somebody has to wait: who has sent his request by the time that he is accepted is served without, and wakes
// no other thread.
type socket struct {
	f       atomic.Pointer[os.File] // has the descriptor then; nil: nobody had to wait so far
	readers atomic.Int32            // of f, or who may be
	untold  atomic.Bool             // f does not know the deadline of reading
	late    atomic.Pointer[net.OpError]

	reading reading    // of the one who reads, if there is no other
	writing sync.Mutex // what one Write writes stays together

	mu      sync.Mutex
	fd      int // unless it is closed
	closed  bool
	eager   bool // the first read is that of a child that has nothing else to do
	read    deadline
	write   deadline
	copier  *net.TCPConn // a duplicate that copies from a file, see ReadFrom; nil: none does
	copying int

	local, remote net.Addr
	timeout       time.Duration // Config.ClientTimeout
}

// A deadline is when reading or writing is to fail; zero: never.
type deadline struct {
	at    time.Time
	told  time.Time   // what f has been told
	never atomic.Bool // there is none, f knows that, and the socket is open: to set none changes nothing
}

// set notes that it has been changed. s.mu is held.
func (d *deadline) set(at, told time.Time) {
	d.at, d.told = at, told
	d.never.Store(at.IsZero() && told.IsZero())
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// connOf makes a connection of an accepted descriptor, or closes that.
func (c *Child) connOf(acc accepted) (net.Conn, error) {
	if acc.from.tcp {
		if err := inherited(acc.fd, c.cfg.ClientTimeout); err != nil {
			c.complain("cannot have a client looked after who falls silent: %v", err)
		}
		s, err := newSocket(acc.fd, acc.from.addr, acc.peer, c.cfg.ClientTimeout)
		if err != nil {
			unix.Close(acc.fd)
			return nil, err
		}
		s.eager = acc.idle && c.cfg.Concurrency == 1
		return s, nil
	}
	f := os.NewFile(uintptr(acc.fd), "connection")
	defer f.Close()
	nc, err := net.FileConn(f)
	if c.acceptor.reserve.spend(err) {
		nc, err = net.FileConn(f)
	}
	return nc, err
}

// newSocket takes the descriptor over, unless it fails. local is what the listener is bound to.
func newSocket(fd int, local net.Addr, peer netip.AddrPort, timeout time.Duration) (*socket, error) {
	s := &socket{fd: fd, timeout: timeout, local: local, remote: net.TCPAddrFromAddrPort(peer)}
	if a, ok := local.(*net.TCPAddr); !ok || a.IP.IsUnspecified() {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return nil, os.NewSyscallError("getsockname", err)
		}
		s.local = net.TCPAddrFromAddrPort(addrPort(sa))
	}
	s.read.never.Store(true)
	s.write.never.Store(true)
	return s, nil
}

// as makes of an error of package os what package net would have said.
func (s *socket) as(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if path, ok := err.(*os.PathError); ok {
		err = path.Err
	}
	if err == os.ErrDeadlineExceeded && op == "read" { // as net/http has one fail for each request, to end it
		late := s.late.Load()
		if late == nil {
			late = &net.OpError{Op: op, Net: "tcp", Source: s.local, Addr: s.remote, Err: err}
			s.late.Store(late)
		}
		return late
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	} else if err == os.ErrClosed {
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: "tcp", Source: s.local, Addr: s.remote, Err: err}
}

// file returns what waits in Go's poller; nil: the socket is closed. s.mu is held.
func (s *socket) file() *os.File {
	if s.f.Load() == nil && !s.closed {
		f := os.NewFile(uintptr(s.fd), "connection")
		if !s.write.at.IsZero() {
			f.SetWriteDeadline(s.write.at)
			s.write.set(s.write.at, s.write.at)
		}
		s.reading.init(f)
		s.f.Store(f)
	}
	return s.f.Load()
}

// tell tells f the deadline of reading. s.mu is held.
func (s *socket) tell(f *os.File) (err error) {
	if s.untold.Swap(false) {
		s.read.set(s.read.at, s.read.at)
		err = f.SetReadDeadline(s.read.at)
	}
	return err
}

// overdue reports whether the deadline of reading is over.
func (s *socket) overdue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read.over()
}

// now does without waiting what f would do. If it cannot, the error is EAGAIN, and f can. s.mu is held.
func (s *socket) now(p []byte, d *deadline, do func(int, []byte) (int, error)) (n int, err error) {
	switch {
	case s.closed:
		return 0, net.ErrClosed
	case d.over():
		return 0, os.ErrDeadlineExceeded
	case len(p) == 0:
		return 0, nil
	}
	return do(s.fd, p[:min(len(p), atATime)])
}

func (s *socket) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	n, err := s.now(p, &s.write, sendNow)
	if err != unix.EAGAIN && (err != nil || n == len(p)) {
		s.mu.Unlock()
		return n, s.as("write", err)
	}
	f := s.file()
	s.mu.Unlock()
	m, err := f.Write(p[n:])
	return n + m, s.as("write", err)
}

func (s *socket) Close() error {
	s.mu.Lock()
	if s.copier != nil {
		s.copier.Close()
	}
	was := s.closed
	s.closed = true
	s.read.never.Store(false)
	s.write.never.Store(false)
	s.mu.Unlock()
	// Nobody begins anything with the descriptor by now, and who waits there is sent away.
	switch {
	case was:
		return s.as("close", net.ErrClosed)
	case s.f.Load() != nil:
		return s.as("close", s.f.Load().Close())
	}
	return s.as("close", closeNow(s.fd))
}

func (s *socket) LocalAddr() net.Addr  { return s.local }
func (s *socket) RemoteAddr() net.Addr { return s.remote }

func (s *socket) SetDeadline(t time.Time) error {
	if err := s.SetWriteDeadline(t); err != nil {
		return err
	}
	return s.SetReadDeadline(t)
}

// SetReadDeadline tells f at once only if somebody waits there: net/http sets one for each request, and takes it back more than once.
func (s *socket) SetReadDeadline(t time.Time) error {
	if t.IsZero() && s.read.never.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.as("set", net.ErrClosed)
	}
	s.read.set(t, s.read.told)
	if untold := !t.Equal(s.read.told); untold != s.untold.Load() {
		s.untold.Store(untold)
	}
	if s.readers.Load() > 0 { // else who reads next sees it
		return s.as("set", s.tell(s.f.Load()))
	}
	return nil
}

func (s *socket) SetWriteDeadline(t time.Time) error {
	if t.IsZero() && s.write.never.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.as("set", net.ErrClosed)
	}
	s.write.set(t, s.write.told)
	if s.copier != nil {
		s.copier.SetWriteDeadline(t)
	}
	if f := s.f.Load(); f != nil {
		s.write.set(t, t)
		return s.as("set", f.SetWriteDeadline(t))
	}
	return nil
}

func (s *socket) SyscallConn() (syscall.RawConn, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, s.as("raw-control", net.ErrClosed)
	}
	f := s.file()
	s.mu.Unlock()
	s.reader(f) // from now on
	rc, err := f.SyscallConn()
	return rc, s.as("raw-control", err)
}

// control calls f with the descriptor, unless it is closed. f must not call the socket.
func (s *socket) control(f func(fd int) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return f(s.fd)
}

func (s *socket) CloseRead() error  { return s.shutdown(unix.SHUT_RD) }
func (s *socket) CloseWrite() error { return s.shutdown(unix.SHUT_WR) }

func (s *socket) shutdown(how int) error {
	return s.as("close", s.control(func(fd int) error { return os.NewSyscallError("shutdown", unix.Shutdown(fd, how)) }))
}
