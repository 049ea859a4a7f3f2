package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// stopAll looks for processes and stops them until there are no more.
func (h *hunt) stopAll() {
	h.deadline = time.Now().Add(h.limit)
	pause := 200 * time.Microsecond // a thread that runs stops within some tens of microseconds
	for {
		rest, err := h.round()
		if rest && err == nil {
			h.quiet++
		} else {
			h.quiet = 0
		}
		// The first look that brings nothing may have been taken while somebody was between two parents, or have missed
		// one in a list that changed under it.
		if h.quiet == 2 {
			return
		}
		if time.Now().After(h.deadline) {
			h.errs = append(h.errs, fmt.Errorf("no rest within %v: killed the %d processes found, there may be more",
				h.limit, len(h.all)), err)
			return
		}
		time.Sleep(pause)
		pause = min(2*pause, 5*time.Millisecond)
	}
}

// round looks once below everybody who is known and stops who is new. It reports whether there was nobody new and all
// were at rest.
func (h *hunt) round() (rest bool, err error) {
	if err := h.look(); err != nil {
		return false, err
	}
	rest = true
	for i := 0; i < len(h.all); i++ { // it grows
		m := h.all[i]
		if h.known[m.pid] != m {
			continue
		}
		still, tids, err := h.state(m)
		if errors.Is(err, fs.ErrNotExist) {
			delete(h.known, m.pid)
			rest = false
			continue
		}
		if err != nil {
			return false, err
		}
		rest = rest && (still || m.base || m.deaf)
		// The children are asked for after the state: one who is at rest gets no more of them.
		found, err := h.chase(m, tids)
		if err != nil {
			return false, err
		}
		rest = rest && !found
	}
	return rest, nil
}

// state reports whether all threads of a member are at rest, and which they are. The error wraps fs.ErrNotExist if the
// number is not its own any more.
func (h *hunt) state(m *member) (still bool, tids []int, err error) {
	s, err := h.stat(m.pid)
	if err != nil {
		return false, nil, err
	}
	if s.start != m.start {
		return false, nil, fs.ErrNotExist
	}
	if s.alone { // as most are, and it is twice as fast
		return s.atRest(), []int{m.pid}, nil
	}
	if tids, err = h.tasks(m.pid); err != nil {
		return false, nil, err
	}
	still, err = h.atRest(m.pid, tids)
	return still, tids, err
}

// chase stops the children of a member that are not known yet, and reports whether there were any.
//
// It asks again at once as long as there are: a program that goes on by forking and dying is always the newest child of
// the subreaper, for a fraction of a millisecond. Coming round to it after all the others would never catch it. For the
// same reason the newest, who is the last in the list, is stopped first.
func (h *hunt) chase(m *member, tids []int) (found bool, err error) {
	fresh := make(map[int]bool) // zombies seen in this chase; a number does not come back that soon
	for {
		children, err := h.children(m.pid, tids)
		if err != nil {
			return false, err
		}
		again := false
		for _, pid := range slices.Backward(children) {
			if h.known[pid] != nil || pid == h.self || fresh[pid] {
				continue
			}
			before := h.dead[pid]
			if err := h.add(identity{pid: pid}, m); err != nil {
				return false, err
			}
			if h.known[pid] != nil {
				again, found = true, true
				continue
			}
			// A zombie that was none at the last look may have left somebody behind.
			fresh[pid] = true
			if start := h.dead[pid]; start == 0 || start != before {
				again, found = true, true
			}
		}
		if !again || time.Now().After(h.deadline) {
			return found, nil
		}
	}
}

// add stops a child of parent. If the number is nobody's or somebody else's now, it does nothing. A start of 0 is any.
func (h *hunt) add(id identity, parent *member) error {
	m := &member{identity: id, pidfd: -1}
	if h.room > 0 {
		fd, err := unix.PidfdOpen(id.pid, 0)
		if err == unix.ESRCH {
			return nil
		}
		if err == nil { // else by number: there are no descriptors left, or a sandbox does not know the call
			m.pidfd = fd
			h.room--
		}
	}
	stopped, err := h.stopChild(m, parent)
	if stopped {
		h.all = append(h.all, m)
		h.known[m.pid] = m
		return nil
	}
	if m.pidfd >= 0 {
		unix.Close(m.pidfd)
		h.room++
	}
	return err
}

// stopChild stops m, whose pidfd is open, if it is a child of parent.
func (h *hunt) stopChild(m, parent *member) (bool, error) {
	s, err := h.stat(m.pid)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || s.ppid != parent.pid || m.start != 0 && m.start != s.start {
		return false, err
	}
	if s.ended() {
		h.dead[m.pid] = s.start
		return false, nil
	}
	// The parent is asked last: as it is still itself, its number was its own all the time.
	if there, err := h.is(parent); !there {
		return false, err
	}
	m.start = s.start
	return h.signal(m, unix.SIGSTOP), nil
}
