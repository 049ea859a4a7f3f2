package tree

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Strays ends, as [Kill] does, the trees of those children of this process that it has not started itself and that
// carry one of marks, each a whole NAME=value, in their environment. They are what a child has left behind that was started with
// such a mark and has ended without a [Sweep]: this process has to be a subreaper or process 1 to get them.
//
// A child is its own if it holds a pidfd of it. The mark should be unique among all processes of the host, since a
// program started by somebody else's job inherits that one's mark. Who has no mark is left alone.
func Strays(marks ...string) error {
	t := tableOf(theProc)
	done := make(map[identity]bool)
	var errs []error
	// Who was between two parents at the first look is a child of ours at the second one.
	for deadline := time.Now().Add(patience); ; {
		found, err := theProc.strays(t, marks, done)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("look for strays: %w", err))...)
		}
		if len(found) == 0 {
			return errors.Join(errs...)
		}
		if time.Now().After(deadline) {
			return errors.Join(append(errs, fmt.Errorf("there are new strays even after %v", patience))...)
		}
		errs = append(errs, newHunt(theProc, t).killChildren(found))
	}
}

// strays returns those who are not done with yet, and notes them.
func (p proc) strays(t table, marks []string, done map[identity]bool) ([]identity, error) {
	self := os.Getpid()
	children, err := childrenOf(p, t, self)
	if err != nil {
		return nil, err
	}
	var found []identity
	for _, pid := range children {
		s, err := p.stat(pid)
		if err != nil || s.ppid != self || done[identity{pid, s.start}] {
			continue
		}
		// One whose environment we may not read is none of ours, and not ours to kill.
		if marked, err := p.marked(pid, marks); err == nil && marked {
			found = append(found, identity{pid, s.start})
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	// This is the last question: a new child of our own shows the mark only after it has begun to run, and then its
	// pidfd is there. Asked before, it might not be yet.
	held, err := p.held()
	if err != nil {
		return nil, err
	}
	strays := found[:0]
	for _, id := range found {
		if !held[id.pid] {
			done[id] = true
			strays = append(strays, id)
		}
	}
	return strays, nil
}

// killChildren ends the trees of some children of this process.
func (h *hunt) killChildren(ids []identity) (err error) {
	defer func() { err = h.end() }()
	self, err := h.base()
	if err != nil {
		h.errs = append(h.errs, err)
		return nil
	}
	for _, id := range ids {
		if err := h.add(id, self); err != nil {
			h.errs = append(h.errs, fmt.Errorf("stop stray %d: %w", id.pid, err))
		}
	}
	h.stopAll()
	return nil
}
