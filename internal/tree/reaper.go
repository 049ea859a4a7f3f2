package tree

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ripe is how long a zombie has to be one before it is taken. Code that forks and waits without a pidfd has that
	// long.
	ripe = time.Second

	// slowest is the longest time between two looks at zombies that somebody else is to reap.
	slowest = 64 * ripe
)

// A Reaper reaps the children of this process that nobody in it waits for: those that it has got as a subreaper or as
// process 1. It never takes the exit status of a process that was started with package os or os/exec, or of any other
// that this process holds a pidfd of, and gives those who fork without one a second to wait for their child.
//
// The zero value is ready for use.
type Reaper struct {
	// Reaped, if it is not nil, is told of everybody who was reaped, on the goroutine of Run.
	Reaped func(pid int, status syscall.WaitStatus)

	seen  map[identity]time.Time // zombies that nobody holds, and when they were first seen
	pause time.Duration          // until the next look at zombies that others are to reap
	looks atomic.Int64
}

// Run reaps until done is closed. It sleeps as long as no child of this process ends.
func (r *Reaper) Run(done <-chan struct{}) {
	signals := make(chan os.Signal, 1) // one is enough: what matters is that there was any
	signal.Notify(signals, unix.SIGCHLD)
	defer signal.Stop(signals)
	// Some may have ended before the signal was asked for.
	timer := time.NewTimer(ripe)
	defer timer.Stop()
	due := time.Now().Add(ripe)
	for {
		select {
		case <-done:
			return
		case <-signals:
			// A second's rest makes one look of many ends, and by then most are reaped by those who have started them.
			if soon := time.Now().Add(ripe); due.IsZero() || due.After(soon) {
				due = soon
				timer.Reset(ripe)
			}
		case <-timer.C:
			due = time.Time{}
			if next := r.look(time.Now()); next > 0 {
				due = time.Now().Add(next)
				timer.Reset(next)
			}
		}
	}
}

// look reaps what is to be reaped now and returns when to look again, 0 if there is no need to.
func (r *Reaper) look(now time.Time) time.Duration {
	r.looks.Add(1)
	if !anyZombie() {
		r.seen, r.pause = nil, 0
		return 0
	}
	young, err := r.reap(theProc, now)
	if young || err != nil {
		// An error is want of memory or descriptors, which passes.
		return ripe
	}
	if !anyZombie() {
		r.pause = 0
		return 0
	}
	// The others are somebody's. They usually end with a signal for another child or with nothing at all to do for us,
	// but a pidfd can be closed without a wait, and that makes no signal.
	r.pause = min(max(2*r.pause, ripe), slowest)
	return r.pause
}

// anyZombie reports whether there is a child to reap, whoever is to do it, and leaves it there.
func anyZombie() bool {
	var info unix.Siginfo
	_, err := ignoringEINTR(func() (int, error) {
		return 0, unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	})
	// If there are children but no zombies, the call succeeds and tells of no signal (waitid(2)).
	return err == nil && info.Signo != 0
}

// reap takes the zombies that have been nobody's for long enough and reports whether there are younger ones.
func (r *Reaper) reap(p proc, now time.Time) (young bool, err error) {
	self := os.Getpid()
	children, err := childrenOf(p, tableOf(p), self)
	if err != nil {
		return false, err
	}
	var zombies []identity
	for _, pid := range children {
		if s, err := p.stat(pid); err == nil && s.ppid == self && s.ended() {
			zombies = append(zombies, identity{pid, s.start})
		}
	}
	// This is the last question: who has run has its pidfd here, if it was to have one. See held.
	held, err := p.held()
	if err != nil {
		return false, err
	}
	seen := make(map[identity]time.Time)
	for _, id := range zombies {
		if held[id.pid] {
			continue
		}
		since, ok := r.seen[id]
		switch {
		case !ok:
			seen[id] = now
			young = true
		case now.Sub(since) < ripe:
			seen[id] = since
			young = true
		case !r.take(id.pid):
			seen[id] = since // somebody traces it
		}
	}
	r.seen = seen
	return young, nil
}

// take reaps one child and reports whether it is gone.
func (r *Reaper) take(pid int) bool {
	var status syscall.WaitStatus
	n, err := ignoringEINTR(func() (int, error) { return syscall.Wait4(pid, &status, syscall.WNOHANG, nil) })
	if n == pid && r.Reaped != nil {
		r.Reaped(pid, status)
	}
	return n == pid || err != nil
}
