package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a tree is tried to be brought to rest. Stopping takes milliseconds; only a machine out of breath
// or a fork bomb needs more. The tests, which bring the machine out of breath, have more of it.
var patience = time.Second

// maxHeld is how many pidfds a hunt keeps open. A fork bomb must not take the descriptors that the rest of this process
// needs; what comes after that is known by its number and start time.
const maxHeld = 256

// A Root is the process at the top of a tree.
type Root struct {
	// PID is its process id.
	PID int

	// Signal sends it a signal, or 0 to ask whether it is still there, through a pidfd or in another way that cannot
	// reach somebody else who has got the same number meanwhile. An error other than unix.EPERM means that it is gone.
	Signal func(unix.Signal) error
}

// Kill ends the roots and all that is below them: whatever session or process group it is in, whatever signals it
// ignores.
//
// All is stopped first, so that nothing can fork while it is killed. It takes a few milliseconds; after a second
// without success what is known is killed and the error says so. The error also tells who could not be signalled. When
// it returns, the signals are sent, but the processes may still be about to end, and somebody has to reap them (see
// [Reaper]).
func Kill(roots ...Root) error { return newHunt(theProc, tableOf(theProc)).kill(roots) }

// A hunt is one attempt to end trees.
type hunt struct {
	proc
	table
	self     int
	limit    time.Duration
	deadline time.Time
	all      []*member // parents before their children
	known    map[int]*member
	dead     map[int]uint64 // zombies: number and start time
	quiet    int            // looks in a row that have brought nothing
	room     int            // how many more pidfds may be kept open
	errs     []error
}

// An identity names one process for all time.
type identity struct {
	pid   int
	start uint64
}

// A member is a process that belongs to a tree.
type member struct {
	identity
	root  *Root
	pidfd int  // -1 if there is none: a root, or one too many
	base  bool // this very process: only what is below it is meant
	deaf  bool // we may not signal it
}

func newHunt(p proc, t table) *hunt {
	return &hunt{
		proc:  p,
		table: t,
		self:  os.Getpid(),
		limit: patience,
		room:  maxHeld,
		known: make(map[int]*member),
		dead:  make(map[int]uint64),
	}
}

func (h *hunt) kill(roots []Root) (err error) {
	defer func() { err = h.end() }()
	for i := range roots {
		h.addRoot(&roots[i])
	}
	h.stopAll()
	return nil
}

// end kills who is known and returns what has gone wrong. It is deferred: whatever happens, and be it a panic in a
// root's Signal, nobody may stay stopped for ever.
func (h *hunt) end() error {
	h.signalAll(unix.SIGKILL)
	for _, m := range h.all {
		if m.pidfd >= 0 {
			unix.Close(m.pidfd)
		}
	}
	h.all = nil
	return errors.Join(h.errs...)
}

// signalAll signals everybody, children before their parents, so that no child is handed on to a new parent on the way.
// Those who are gone are asked too: it costs nothing, and to be wrong about them would leave somebody stopped.
func (h *hunt) signalAll(s unix.Signal) {
	for i := len(h.all) - 1; i >= 0; i-- {
		if m := h.all[i]; !m.base {
			h.signal(m, s)
		}
	}
}

func (h *hunt) addRoot(r *Root) {
	if r.PID == h.self || h.known[r.PID] != nil {
		return
	}
	m := &member{identity: identity{pid: r.PID}, root: r, pidfd: -1}
	if !h.signal(m, unix.SIGSTOP) {
		return
	}
	h.all = append(h.all, m)
	s, err := h.stat(r.PID)
	if err == nil && h.signal(m, 0) { // it is still there, so it was its line that we have read
		m.start = s.start
		h.known[r.PID] = m
		return
	}
	// It stays in the list to be killed, but without a status nothing can be said of its children.
	if h.signal(m, 0) {
		h.errs = append(h.errs, fmt.Errorf("what is below process %d is not known: %w", r.PID, err))
	}
}

// is reports whether the number of a member is still its own. An unreaped zombie keeps its number.
func (h *hunt) is(m *member) (bool, error) {
	s, err := h.stat(m.pid)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && s.start == m.start, err
}

// signal sends a signal to a member and reports whether it is still there.
func (h *hunt) signal(m *member, s unix.Signal) bool {
	var err error
	switch {
	case m.root != nil:
		err = m.root.Signal(s)
	case m.pidfd >= 0:
		err = unix.PidfdSendSignal(m.pidfd, s, nil, 0)
	default:
		st, serr := h.stat(m.pid)
		// If the status cannot be read, for want of descriptors, one that was stopped has to be killed all the same.
		if errors.Is(serr, fs.ErrNotExist) || serr == nil && st.start != m.start {
			return false
		}
		err = unix.Kill(m.pid, s)
	}
	if errors.Is(err, unix.EPERM) {
		if !m.deaf {
			m.deaf = true
			h.errs = append(h.errs, fmt.Errorf("signal process %d: %w", m.pid, err))
		}
		return true
	}
	return err == nil
}
