package daemon

import (
	"fmt"
	"runtime/debug"
	"time"
)

const (
	// hookQueue is how many calls may wait for the one that runs.
	hookQueue = 4096
	// hookPatience is how long a hook may run before the log says that it hangs.
	hookPatience = 5 * time.Second
	// shutdownPatience is how long BeforeShutdown may hold up a stop.
	shutdownPatience = 30 * time.Second
)

// An Exit tells of a child that has ended.
type Exit struct {
	PID        int
	Slot       int
	Generation uint64
	Status     int    // exit status; -1 if a signal ended it
	Signal     string // "killed", "segmentation fault"; empty if it exited
	Cause      string // why it was to end; empty if it ended unasked
}

// hooks calls the user's functions in the parent, one after the other, on a goroutine of its own: whatever they do, the
// loop goes on.
type hooks struct {
	p     *Parent
	calls chan call
}

type call struct {
	name string
	f    func()
}

func newHooks(p *Parent) *hooks { return &hooks{p: p, calls: make(chan call, hookQueue)} }

// do queues a call and reports whether there was room for it.
func (h *hooks) do(name string, f func()) bool {
	select {
	case h.calls <- call{name, f}:
		return true
	default:
		h.p.log.Error("hook is far behind: a call is left out", "hook", name)
		return false
	}
}

func (h *hooks) run() {
	for {
		select {
		case c := <-h.calls:
			h.p.attempt(c.name, func() error { c.f(); return nil })
		case <-h.p.done:
			return
		}
	}
}

// attempt calls a hook; what goes wrong with it, its error, its panic, or that it hangs, is logged with its name.
func (p *Parent) attempt(name string, f func() error) error {
	begun := time.Now()
	late := time.AfterFunc(hookPatience, func() {
		p.log.Warn("hook hangs", "hook", name, "for", hookPatience)
	})
	err := guard(name, f)
	if !late.Stop() {
		p.log.Info("hook has returned", "hook", name, "after", time.Since(begun).Round(time.Millisecond))
	}
	if err != nil {
		p.log.Error("hook failed", "hook", name, "err", err)
	}
	return err
}

// guard calls a hook and turns its panic into an error that names it.
func guard(hook string, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s panicked: %v\n%s", hook, r, debug.Stack())
		}
	}()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", hook, err)
	}
	return nil
}
