package daemon

import (
	"io"
	"net"
	"os"
)

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
		f := s.file()
		if f == nil {
			return nil
		}
		nc, err := net.FileConn(f)
		if err != nil {
			return nil
		}
		s.copier, _ = nc.(*net.TCPConn)
		s.copier.SetWriteDeadline(s.write.at)
		// Package net has put its own defaults there.
		inheritable(s.fd, "tcp", s.timeout)
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
