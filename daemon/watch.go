package daemon

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/netmon"
)

const (
	// sweepEvery is how often the kernel's tables are looked at while somebody is busy. The children's own eyes are
	// immediate; this is the check on them, and the only one for a child that is stopped.
	sweepEvery = 250 * time.Millisecond
	// sweepShare bounds the cost: after a look that cost d, the next one waits 50 d, which is two per cent of a processor.
	sweepShare = 50
	// complainEvery limits how often the same trouble is logged.
	complainEvery = time.Minute
)

// A watch looks at the connections of busy children in the kernel's tables. While nobody is busy it rests: the
// next child that becomes busy rings.
type watch struct {
	p          *Parent
	ports      []uint16
	timer      *time.Timer
	active     bool // somebody was busy at the last look
	sweeping   bool
	requests   chan []int // pids
	complained time.Time
}

func newWatch(p *Parent) *watch {
	w := &watch{p: p, timer: time.NewTimer(time.Hour), requests: make(chan []int, 1)}
	w.timer.Stop()
	for _, l := range p.listeners {
		if l.network == "tcp" {
			w.ports = append(w.ports, l.port)
		}
	}
	return w
}

// run does the looking, on a goroutine of its own: a full table takes a while.
func (w *watch) run() {
	m := netmon.NewMonitor(netmon.DefaultFS, nil)
	runtime.LockOSThread() // whose time is measured
	for {
		select {
		case pids := <-w.requests:
			begun := threadTime()
			var ev evSwept
			if len(w.ports) > 0 {
				ev.lost, ev.err = m.Poll(nil, w.ports, pids)
			}
			ev.took = threadTime() - begun
			w.p.post(ev)
		case <-w.p.done:
			return
		}
	}
}

// threadTime is the processor time that this thread has used: on a busy machine a look takes longer but costs the same.
func threadTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// due returns the channel on which the next look is due; nil while there is none.
func (w *watch) due() <-chan time.Time {
	if !w.active || w.sweeping {
		return nil
	}
	return w.timer.C
}

// follow starts looking when somebody has become busy, and rests when nobody is.
func (w *watch) follow(busy bool) {
	if busy == w.active || w.sweeping || !w.wanted() {
		return
	}
	w.active = busy
	if busy {
		w.timer.Reset(sweepEvery)
	}
}

// wanted reports whether there is anything to look for: connections, or jobs whose time is over.
func (w *watch) wanted() bool { return len(w.ports) > 0 || w.p.cfg.JobTimeout > 0 }

func (w *watch) sweep(processes map[int]*process) {
	pids := make([]int, 0, len(processes))
	for _, proc := range processes {
		pids = append(pids, proc.pid)
	}
	w.sweeping = true
	w.requests <- pids
}

// next plans the look after one that cost d of a processor's time.
func (w *watch) next(d time.Duration) {
	w.sweeping = false
	w.timer.Reset(max(sweepEvery, sweepShare*d))
}

// complain logs that the tables cannot be read.
func (w *watch) complain(err error) {
	if now := time.Now(); now.Sub(w.complained) > complainEvery {
		w.complained = now
		w.p.log.Warn("cannot look at the connections of children; their own eyes remain", "err", err)
	}
}
