package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// scarce is how long an acceptor that has run out of descriptors or memory lets others try.
const scarce = 50 * time.Millisecond

// A reserve is what an accepted connection takes until it is one of package net: two descriptors. Who has none does not
// wait for connections: he would be woken for one that he cannot take, and nobody else would be.
type reserve struct {
	mu  sync.Mutex
	fds []int
}

// fill duplicates a descriptor until the reserve is there, and reports whether it is.
func (r *reserve) fill(fd int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.fds) < 2 {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return false
		}
		r.fds = append(r.fds, dup)
	}
	return true
}

// spend gives the reserve up, if err says that there are no descriptors left, and reports whether there was one.
func (r *reserve) spend(err error) bool {
	if !errors.Is(err, unix.EMFILE) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	spent := len(r.fds) > 0
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
	return spent
}

// rest lets others try for a while.
func (a *acceptor) rest(ctx context.Context, why error) {
	a.c.complain("cannot accept for now: %v", why)
	if a.duty != nil {
		a.duty.leave(false)
	}
	t := time.NewTimer(scarce)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.c.draining:
	case <-ctx.Done():
	}
}

// short reports whether accept(2) failed for want of something that others may give back.
func short(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}
