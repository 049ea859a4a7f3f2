package tree

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Subreaper makes this process the one that its descendants become children of when their parents end, instead of
// process 1. It is not inherited by children and stays until the process ends, even over execve
// (PR_SET_CHILD_SUBREAPER(2const)).
func Subreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a child subreaper: %w", err)
	}
	return nil
}

// Sweep ends all descendants of this process, as [Kill] does. It is for the moment before the process exits: from its
// call on, this process can start no other any more, and whoever tries waits for ever.
//
// It holds [syscall.ForkLock] and never gives it back, for two reasons. A job that starts program after program must
// not start the next one between the sweep and the exit. And a child stopped between vfork and exec would keep the
// thread that has started it, which the garbage collector waits for: the whole process would hang, and the sweep with
// it.
func Sweep() error {
	locked := make(chan struct{})
	go func() {
		// Waiting for it is what makes those who fork one after the other let go of it; trying would not.
		syscall.ForkLock.RLock()
		close(locked)
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-locked:
	case <-late.C: // somebody hangs in execve; what else there is can be ended all the same
	}
	if childless() {
		return nil // as it is with most: one call instead of several looks
	}
	return newHunt(theProc, tableOf(theProc)).sweep()
}

// childless reports whether this process has no child at all, not even a zombie. A subreaper that has none has no
// descendants.
func childless() bool {
	_, err := ignoringEINTR(func() (int, error) {
		return 0, unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	})
	return err == unix.ECHILD
}

func (h *hunt) sweep() (err error) {
	defer func() { err = h.end() }()
	self, err := h.base()
	if err != nil {
		h.errs = append(h.errs, fmt.Errorf("sweep: %w", err))
		return nil
	}
	h.all = append(h.all, self)
	h.known[h.self] = self
	h.stopAll()
	return nil
}

// base returns this process as one whose children may be members.
func (h *hunt) base() (*member, error) {
	s, err := h.stat(h.self)
	if err != nil {
		return nil, err
	}
	return &member{identity: identity{h.self, s.start}, pidfd: -1, base: true}, nil
}
