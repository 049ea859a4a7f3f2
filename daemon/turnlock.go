package daemon

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A turnLock is what children take in turns: who has it waits for connections, the others wait for it. Waiting can be
// interrupted by the acceptor's eventfd, as waiting for connections can.
type turnLock struct {
	lock  lock
	epoll int
}

// A lock is in one hand at a time. All but the waiting of a threadLock happens on the goroutine that has the acceptor's turn.
type lock interface {
	fd() int   // readable when the lock may be had
	try() bool // takes it, if it is to be had at once
	want()     // makes fd tell
	forgo()    // it is not wanted any more
	give()     // gives it back
}

// newTurnLock is for one that could be made.
func newTurnLock(l lock, err error) (*turnLock, error) {
	if err != nil {
		return nil, err
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	t := &turnLock{l, ep}
	// Many children wait for one token: it wakes one of them.
	return t, t.add(l.fd(), unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
}

func (t *turnLock) add(fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(t.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// interruptible makes an eventfd end the waiting.
func (t *turnLock) interruptible(wake int) error { return t.add(wake, unix.EPOLLIN) }

// take waits for the lock, and reports whether it has it; false: it has been interrupted.
func (t *turnLock) take() (bool, error) {
	if t.lock.try() {
		return true, nil
	}
	t.lock.want()
	var events [2]unix.EpollEvent
	for {
		n, err := unix.EpollWait(t.epoll, events[:], -1)
		if err != nil && err != unix.EINTR {
			t.lock.forgo()
			return false, os.NewSyscallError("epoll_wait", err)
		}
		woken := false
		for _, ev := range events[:max(n, 0)] {
			// The lock goes before a waking: nobody else has been woken for it.
			if ev.Fd == int32(t.lock.fd()) && t.lock.try() {
				return true, nil
			}
			woken = woken || ev.Fd != int32(t.lock.fd())
		}
		if woken {
			t.lock.forgo()
			return false, nil
		}
	}
}

// A blocker is a lock whose waiting blocks a thread and cannot be interrupted.
type blocker interface {
	// acquire takes the lock. Without wait the error is EAGAIN if somebody else has it.
	acquire(wait bool) error
	release() error
}

// A threadLock waits for a blocker on a thread of its own. What arrives when nobody wants it any more is given back at once.
type threadLock struct {
	blocker  blocker
	bell     int // an eventfd
	asks     chan struct{}
	complain func(string, ...any)

	mu      sync.Mutex
	waiting bool // the thread
	wanted  bool
	there   bool
	broken  bool // there is no lock any more: nobody waits for his turn
}

func newThreadLock(b blocker, complain func(string, ...any)) (*threadLock, error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	l := &threadLock{blocker: b, bell: bell, asks: make(chan struct{}, 1), complain: complain}
	go l.run()
	return l, nil
}

func (l *threadLock) run() {
	for range l.asks {
		err := l.blocker.acquire(true)
		l.mu.Lock()
		l.waiting = false
		switch {
		case err != nil && l.wanted:
			l.fail(err)
		case err != nil: // the end of a child, or of the daemon
			l.mu.Unlock()
			continue
		case !l.wanted:
			l.blocker.release()
			l.mu.Unlock()
			continue
		}
		l.there = true
		unix.Write(l.bell, once)
		l.mu.Unlock()
	}
}

// fail goes on without a lock: that costs others a waking in vain, and no client. l.mu is held.
func (l *threadLock) fail(err error) {
	if !l.broken {
		l.broken = true
		l.complain("cannot take turns with others any more: %v", err)
	}
}

func (l *threadLock) fd() int { return l.bell }

func (l *threadLock) try() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken:
		return true
	case l.there:
		l.arrived()
		return true
	case l.waiting:
		return false
	}
	err := l.blocker.acquire(false)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		l.fail(err)
		return true
	}
	return err == nil
}

// arrived takes note of what the thread has got. l.mu is held.
func (l *threadLock) arrived() {
	var b [8]byte
	unix.Read(l.bell, b[:])
	l.there, l.wanted = false, false
}

func (l *threadLock) want() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = true
	if !l.waiting && !l.there {
		l.waiting = true
		l.asks <- struct{}{}
	}
}

func (l *threadLock) forgo() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = false
	if l.there {
		l.arrived()
		l.blocker.release()
	}
}

func (l *threadLock) give() { l.blocker.release() }
