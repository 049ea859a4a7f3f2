package daemon

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A socket is an accepted TCP connection as a net.Conn that offers what *net.TCPConn does for Conn. To make one of those package
// net would duplicate the descriptor, ask the kernel for what accept(2) has told, and set options that are inherited: eighteen
// system calls for each connection, which is a good part of what a short request takes.
type socket struct {
	f             *os.File
	local, remote net.Addr
	timeout       time.Duration // Config.ClientTimeout

	mu       sync.Mutex
	deadline time.Time    // for writing
	copier   *net.TCPConn // a duplicate that copies from a file, see ReadFrom; nil: none does
	copying  int
}

// connOf makes a connection of an accepted descriptor, or closes that.
func (c *Child) connOf(acc accepted) (net.Conn, error) {
	if acc.from.tcp {
		if err := inherited(acc.fd, c.cfg.ClientTimeout); err != nil {
			c.complain("cannot have a client looked after who falls silent: %v", err)
		}
		s, err := newSocket(acc.fd, acc.from.addr, addrPort(acc.peer), c.cfg.ClientTimeout)
		if err != nil {
			unix.Close(acc.fd)
			return nil, err
		}
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
	s := &socket{timeout: timeout, local: local, remote: net.TCPAddrFromAddrPort(peer)}
	if a, ok := local.(*net.TCPAddr); !ok || a.IP.IsUnspecified() {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return nil, os.NewSyscallError("getsockname", err)
		}
		s.local = net.TCPAddrFromAddrPort(addrPort(sa))
	}
	s.f = os.NewFile(uintptr(fd), "connection")
	return s, nil
}

// as makes of an error of package os what package net would have said.
func (s *socket) as(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	// One without a search: net/http has a read fail so for each request, to end it.
	if path, ok := err.(*os.PathError); ok {
		err = path.Err
	}
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	} else if err == os.ErrClosed {
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: "tcp", Source: s.local, Addr: s.remote, Err: err}
}

func (s *socket) Read(p []byte) (int, error) {
	n, err := s.f.Read(p)
	return n, s.as("read", err)
}

func (s *socket) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	return n, s.as("write", err)
}

func (s *socket) Close() error {
	s.mu.Lock()
	if s.copier != nil {
		s.copier.Close()
	}
	s.mu.Unlock()
	return s.as("close", s.f.Close())
}

func (s *socket) LocalAddr() net.Addr  { return s.local }
func (s *socket) RemoteAddr() net.Addr { return s.remote }

func (s *socket) SetDeadline(t time.Time) error {
	if err := s.SetWriteDeadline(t); err != nil {
		return err
	}
	return s.SetReadDeadline(t)
}

func (s *socket) SetReadDeadline(t time.Time) error { return s.as("set", s.f.SetReadDeadline(t)) }

func (s *socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	if s.copier != nil {
		s.copier.SetWriteDeadline(t)
	}
	return s.as("set", s.f.SetWriteDeadline(t))
}

func (s *socket) SyscallConn() (syscall.RawConn, error) {
	rc, err := s.f.SyscallConn()
	return rc, s.as("raw-control", err)
}

func (s *socket) CloseRead() error  { return s.shutdown(unix.SHUT_RD) }
func (s *socket) CloseWrite() error { return s.shutdown(unix.SHUT_WR) }

func (s *socket) shutdown(how int) error {
	rc, err := s.f.SyscallConn()
	if err == nil {
		var serr error
		if err = rc.Control(func(fd uintptr) { serr = unix.Shutdown(int(fd), how) }); err == nil {
			err = os.NewSyscallError("shutdown", serr)
		}
	}
	return s.as("close", err)
}

// ReadFrom copies from r. From files and sockets package net knows how to copy inside the kernel, which is worth a duplicate
// of the descriptor.
func (s *socket) ReadFrom(r io.Reader) (int64, error) {
	src := r
	if l, ok := r.(*io.LimitedReader); ok {
		src = l.R
	}
	switch src.(type) {
	case *os.File, *net.TCPConn, *net.UnixConn:
		if c := s.borrow(); c != nil {
			defer s.giveBack()
			return c.ReadFrom(r)
		}
	}
	return io.Copy(struct{ io.Writer }{s}, r)
}

// borrow returns the duplicate; nil: there can be none.
func (s *socket) borrow() *net.TCPConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copier == nil {
		nc, err := net.FileConn(s.f)
		if err != nil {
			return nil
		}
		s.copier, _ = nc.(*net.TCPConn)
		s.copier.SetWriteDeadline(s.deadline)
		// Package net has put its own defaults there.
		if rc, err := s.f.SyscallConn(); err == nil {
			rc.Control(func(fd uintptr) { inheritable(int(fd), "tcp", s.timeout) })
		}
	}
	s.copying++
	return s.copier
}

// giveBack closes the duplicate behind the last who copies: the connection must end when the caller closes it.
func (s *socket) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copying--; s.copying == 0 {
		s.copier.Close()
		s.copier = nil
	}
}
