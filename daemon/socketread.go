package daemon

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A reading is a Read that waits in Go's poller for a descriptor of which it reads by itself.
type reading struct {
	f    *os.File
	from syscall.RawConn
	try  func(fd uintptr) bool // done
	p    []byte
	n    int
	err  error
}

// init makes it one of f.
func (r *reading) init(f *os.File) {
	r.f = f
	r.from, _ = f.SyscallConn() // which cannot fail
	r.try = func(fd uintptr) bool {
		r.n, r.err = recvNow(int(fd), r.p)
		return r.err != unix.EAGAIN
	}
}

// read is f.Read of a byte or more. One at a time may call it.
func (r *reading) read(p []byte) (int, error) {
	r.p = p[:min(len(p), atATime)]
	err := r.from.Read(r.try)
	r.p = nil
	switch {
	case err == os.ErrDeadlineExceeded:
		return 0, err
	case err != nil: // it is closed, or cannot be waited for; what that is called f knows
		return r.f.Read(p)
	case r.err == nil && r.n == 0:
		return 0, io.EOF
	}
	return r.n, r.err
}

func (s *socket) Read(p []byte) (int, error) {
	f := s.f.Load()
	if f == nil {
		n, err := s.readFirst(p)
		if err != unix.EAGAIN {
			return n, s.as("read", err)
		}
		f = s.f.Load()
	}
	var n int
	var err error
	if s.reader(f) == 1 && len(p) > 0 {
		n, err = s.reading.read(p)
	} else {
		n, err = f.Read(p)
	}
	s.readers.Add(-1)
	return n, s.as("read", err)
}

// readFirst reads what is there, or will be soon, while there is no f. Otherwise the error is EAGAIN, and there is one.
func (s *socket) readFirst(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.now(p, &s.read, recvNow)
	if err == unix.EAGAIN && s.eager && comesSoon(s.fd) {
		n, err = s.now(p, &s.read, recvNow)
	}
	s.eager = false
	if err == unix.EAGAIN {
		s.file()
	} else if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// reader has f know of one more who may wait there to read, and returns how many there are.
func (s *socket) reader(f *os.File) int32 {
	n := s.readers.Add(1)
	if s.untold.Load() { // else who sets one from here on sees the reader
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tell(f)
	}
	return n
}
