package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
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
	Dequeue    bool   // it had a queue of its own
}

// hooks calls the user's functions in the parent, one after the other, on a goroutine of its own: whatever they do, the
// loop goes on.
type hooks struct {
	p       *Parent
	calls   chan call
	pending atomic.Int64 // calls that have not come to their end
}

type call struct {
	name string
	f    func()
}

func newHooks(p *Parent) *hooks { return &hooks{p: p, calls: make(chan call, hookQueue)} }

// do queues a call and reports whether there was room for it.
func (h *hooks) do(name string, f func()) bool {
	h.pending.Add(1)
	select {
	case h.calls <- call{name, f}:
		return true
	default:
		h.pending.Add(-1)
		h.p.log.Error("hook is far behind: a call is left out", "hook", name)
		return false
	}
}

func (h *hooks) run() {
	var running string
	defer func() {
		select {
		case <-h.p.done:
		default:
			h.p.log.Error("hook failed", "hook", running, "err", errGoexit)
			h.pending.Add(-1)
			go h.run()
		}
	}()
	for {
		select {
		case c := <-h.calls:
			running = c.name
			h.p.attempt(c.name, func() error { c.f(); return nil })
			h.pending.Add(-1)
		case <-h.p.done:
			return
		}
	}
}

// errGoexit is what is wrong with a hook that calls runtime.Goexit.
var errGoexit = errors.New("it has ended its goroutine")

// attempt calls a hook; what goes wrong with it, its error, its panic, or that it hangs, is logged with its name.
func (p *Parent) attempt(name string, f func() error) error {
	begun := time.Now()
	late := time.AfterFunc(hookPatience, func() {
		p.log.Warn("hook hangs", "hook", name, "for", hookPatience)
	})
	defer late.Stop() // also if it ends the goroutine
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

// tellExit calls ChildExit for a child that has been reaped.
func (l *loop) tellExit(proc *process) {
	if l.cfg.ChildExit == nil {
		return
	}
	x := Exit{PID: proc.pid, Slot: proc.slot, Generation: proc.generation, Status: -1}
	if proc.status.Signaled() {
		x.Signal = proc.status.Signal().String()
	} else {
		x.Status = proc.status.ExitStatus()
	}
	if m := l.pool.find(proc.who); m != nil {
		x.Cause, x.Dequeue = cmp.Or(m.end, m.failed), m.kind == scoreboard.Dequeue
	}
	l.hooks.do("ChildExit", func() { l.cfg.ChildExit(x) })
}

// beforeShutdown gives the hook its turn before the first stop, which it may hold up for a while; another stop that
// comes meanwhile waits with it, and one that kills does not wait.
func (l *loop) beforeShutdown(ev evStop) event {
	if l.cfg.BeforeShutdown == nil || l.shut || ev.mode == stopKill {
		return ev
	}
	again := ev.mode == stopQuick && slices.ContainsFunc(l.stops, func(s evStop) bool { return s.mode == stopQuick })
	l.stops = append(l.stops, ev)
	if again { // somebody is in a hurry
		l.shutDown()
		return evTick{}
	}
	if !l.shutting {
		l.shutting = true
		once := sync.OnceFunc(func() { l.post(evShut{}) })
		l.hooks.do("BeforeShutdown", func() {
			defer once()
			l.cfg.BeforeShutdown(l.Parent)
		})
		time.AfterFunc(shutdownPatience, once)
	}
	return evTick{}
}

// shutDown lets the stops that have waited for BeforeShutdown happen.
func (l *loop) shutDown() {
	if l.shut {
		return
	}
	l.shut = true
	for _, ev := range l.stops {
		l.later = append(l.later, ev)
	}
	l.stops = nil
}

// judge asks the user's policy about a lost client.
func (l *loop) judge(ev evGone) {
	act := Ignore
	l.attempt("OnClientDisconnect", func() error {
		act = l.cfg.OnClientDisconnect(ev.d)
		return nil
	})
	if act == Kill && l.cfg.NoFork { // it would be the end of the daemon
		act = Cancel
	}
	l.post(evVerdict{ev.who, ev.d, act})
}
