package daemon

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/netmon"
)

const (
	// sweepEvery is how often the kernel's tables are looked at while somebody is busy. The children's own eyes are
	// immediate; this is the check on them, and the only one for a child that is stopped.
	sweepEvery = 250 * time.Millisecond
	// sweepShare bounds the cost: after a look that cost d, the next one waits 250 d, which is 0.4 % of a processor.
	sweepShare = 250
	// blindFor is how long after a failed look another one is no news.
	blindFor = time.Hour
)

// A watch looks at the connections of busy children in the kernel's tables. While nobody is busy it rests: the
// next child that becomes busy rings.
//
// The connections that a look has found are watched from then on, without the children's help: when something ends on one
// of them the next look is due at once.
type watch struct {
	p        *Parent
	ports    []uint16
	paths    []string // of Unix sockets
	timer    *time.Timer
	active   bool // somebody was busy at the last look
	sweeping bool
	hinting  atomic.Bool   // the loop has been told, and has not taken note yet
	hinted   bool          // while a look was under way
	ended    time.Time     // the last look
	rest     time.Duration // that is due after it
	requests chan []int    // pids
	monitor  *netmon.Monitor
	recalled []netmon.Known // what was handed over, until the first look
	blind    time.Time      // until then a failed look is no news
}

func newWatch(p *Parent) *watch {
	w := &watch{p: p, timer: time.NewTimer(time.Hour), requests: make(chan []int, 1)}
	w.timer.Stop()
	if p.handed != nil {
		for _, c := range p.handed.Connections {
			w.recalled = append(w.recalled, netmon.Known(c))
		}
	}
	for _, l := range p.listeners {
		switch l.network {
		case "tcp":
			w.ports = append(w.ports, l.port)
		case "unix":
			w.paths = append(w.paths, l.path)
		}
	}
	return w
}

// run does the looking, on a goroutine of its own: a full table takes a while.
func (w *watch) run() {
	runtime.LockOSThread() // whose time is measured
	source, choice := netmon.Open(netmon.DefaultFS)
	defer source.Close()
	m := netmon.NewMonitor(netmon.DefaultFS, source)
	m.Recall(w.recalled)
	w.monitor = m
	if len(w.paths) > 0 {
		sockets := netmon.NewUnix()
		defer sockets.Close()
		m.WatchUnix(sockets, w.paths...)
	}
	w.say(choice)
	if watcher, err := netmon.NewWatcher(); err == nil {
		defer watcher.Close()
		m.WatchWith(watcher)
		go w.listen(watcher)
	} else {
		w.alone(err)
	}
	gate := netmon.NewGate(netmon.DefaultFS)
	alone := false
	for {
		select {
		case pids := <-w.requests:
			begun := threadTime()
			var ev evSwept
			if w.looks() && w.moved(gate) {
				ev.lost, ev.err = m.Poll(nil, w.ports, pids)
			}
			ev.took = threadTime() - begun
			w.p.post(ev)
			if choice, other := source.Changed(); other {
				w.say(choice)
			}
			if err := m.Unwatched(); err != nil && !alone {
				alone = true
				w.alone(err)
			}
		case <-w.p.done:
			return
		}
	}
}

// moved reports whether a look could show anything new: there has been traffic. Of Unix sockets nobody tells.
func (w *watch) moved(gate *netmon.Gate) bool {
	if len(w.paths) > 0 {
		return true
	}
	due, err := gate.Due(time.Now())
	return due || err != nil
}

// say tells the log how connections are looked at.
func (w *watch) say(c netmon.Choice) {
	if c.Err != nil {
		w.p.log.Info("connections of children are looked at in another way", "source", c.Source, "reason", c.Err)
		return
	}
	w.p.log.Debug("connections of children are looked at", "source", c.Source)
}

// alone tells the log that a child has to see for itself who leaves; the looks go on.
func (w *watch) alone(err error) {
	w.p.log.Info("connections of children cannot be watched by the parent; their own eyes and the parent's looks remain", "reason", err)
}

// listen passes on that it is time to look.
func (w *watch) listen(watcher *netmon.Watcher) {
	var sockets []uint64
	for {
		var err error
		if sockets, err = watcher.Wait(sockets[:0]); err != nil {
			return
		}
		if !w.hinting.Swap(true) {
			w.p.post(evHint{})
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
	switch {
	case !busy:
	case len(w.recalled) > 0: // somebody may have left while the parent's program was replaced
		w.timer.Reset(0)
	default:
		w.timer.Reset(sweepEvery)
	}
}

// known are the connections that the looks have shown, for the parent that takes over. No look may be under way.
func (w *watch) known() []handedConnection {
	known := w.recalled
	if !w.ended.IsZero() {
		known = w.monitor.Known()
	}
	handed := make([]handedConnection, 0, len(known))
	for _, k := range known {
		handed = append(handed, handedConnection(k))
	}
	return handed
}

// looks reports whether there is anything to look for in the kernel's tables.
func (w *watch) looks() bool { return len(w.ports)+len(w.paths) > 0 }

// wanted reports whether there is anything to look for: connections, or jobs whose time is over.
func (w *watch) wanted() bool { return w.looks() || w.p.now().cfg.JobTimeout > 0 }

func (w *watch) sweep(processes map[int]*process) {
	pids := make([]int, 0, len(processes))
	for _, proc := range processes {
		pids = append(pids, proc.pid)
	}
	w.sweeping, w.hinted = true, false
	w.requests <- pids
}

// next plans the look after one that cost d of a processor's time.
func (w *watch) next(d time.Duration) {
	w.sweeping, w.ended, w.rest, w.recalled = false, time.Now(), sweepShare*d, nil
	w.timer.Reset(max(sweepEvery, w.rest))
	if w.hinted {
		w.hasten()
	}
}

// hint makes the next look due as soon as it may be: something has ended on a connection.
func (w *watch) hint() {
	w.hinting.Store(false)
	if w.sweeping {
		w.hinted = true
	} else if w.active {
		w.hasten()
	}
}

func (w *watch) hasten() { w.timer.Reset(time.Until(w.ended.Add(w.rest))) }

// looked logs that the tables cannot be read: once, and again after an hour in which they could. A look tries less and less
// often what it was refused, so that one without an error means nothing.
func (w *watch) looked(err error) {
	if err == nil {
		return
	}
	now := time.Now()
	if now.After(w.blind) {
		w.p.log.Warn("cannot look at the connections of children; their own eyes remain", "err", err)
	}
	w.blind = now.Add(blindFor)
}
