package daemon

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
)

var (
	errPipe  = error(unix.EPIPE)
	errReset = error(unix.ECONNRESET)
)

// startSources starts everything that posts events, and returns a function that stops what does not stop with the loop.
func (l *loop) startSources(ctx context.Context) (stop func(), err error) {
	operators, err := l.listenOperators()
	if err != nil {
		return nil, err
	}
	l.operators = operators
	watcher, err := l.openWatcher(os.Geteuid() == 0)
	if err != nil {
		operators.Close()
		return nil, err
	}
	if watcher != nil {
		go l.watchFiles(watcher)
		if l.handed != nil && l.watchesProgram() {
			// What the watcher before this one had seen but not told yet is known to this one from the start.
			l.later = append(l.later, evReload{cause: "the program may have changed before the upgrade", auto: true, unasked: true})
		}
	}
	if l.cfg.Pool == OnDemand {
		if err := l.knocker.open(); err != nil {
			operators.Close()
			return nil, err
		}
		go l.knocker.run()
	}
	if l.signals == nil {
		l.signals = make(chan os.Signal, maxSignals)
	}
	l.hearSignals()
	// Until everything is given back: another signal, of an impatient operator, must not leave half of it.
	l.deafen = func() {
		discard(wishes)
		discard(ends)
		signal.Stop(l.signals)
	}
	go l.readBell()
	go l.serveOperators(operators)
	go l.spawner.run()
	go l.undertaker.run()
	go l.reapStrangers()
	go l.hooks.run()
	if l.cfg.IdleLoop != nil {
		l.idle = time.NewTicker(l.cfg.IdleEvery)
		go l.idleLoop(l.idle)
	}
	go l.watch.run()
	cancelled := context.AfterFunc(ctx, func() {
		l.post(evStop{stopDrain, context.Cause(ctx).Error()})
	})
	return func() {
		cancelled()
		operators.Close()
		os.Remove(filepath.Join(l.cfg.RunDir, control.SocketName))
		if watcher != nil {
			watcher.Close()
		}
	}, nil
}

// maxSignals is how many signals may wait for the loop.
const maxSignals = 64

// wishes are the signals that ask a parent for something and do not end it. SIGPIPE is only caught: a reader of the daemon's
// standard error who leaves must not take it with him.
var wishes = []os.Signal{unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTTIN, unix.SIGTTOU, unix.SIGWINCH, unix.SIGPIPE}

// ends are the signals that end it.
var ends = []os.Signal{unix.SIGTERM, unix.SIGQUIT, unix.SIGINT}

// hearSignals makes the loop be told of signals.
func (l *loop) hearSignals() { signal.Notify(l.signals, append(wishes, ends...)...) }

// discard takes those of the signals that have been sent to this process but not handled yet: the kernel leaves that to a thread
// which it may not have woken so far, and what they do is decided then, by whatever action is set by that time.
func discard(signals []os.Signal) {
	var set uint64
	for _, s := range signals {
		set |= 1 << (s.(unix.Signal) - 1)
	}
	for now, err := (unix.Timespec{}), unix.Errno(0); err == 0 || err == unix.EINTR; {
		_, _, err = unix.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, uintptr(unsafe.Pointer(&now)), 8, 0, 0)
	}
}

// asked is what a signal asks for. The loop takes signals itself: one that somebody else had in his hands would be lost when the
// parent's program is replaced.
func asked(s os.Signal) event {
	cause := "signal " + unix.SignalName(s.(unix.Signal))
	switch s {
	case unix.SIGTERM, unix.SIGQUIT:
		return evStop{stopDrain, cause}
	case unix.SIGINT:
		return evStop{stopQuick, cause}
	case unix.SIGHUP:
		return evReload{cause: cause}
	case unix.SIGTTIN:
		return evScale{n: 1, relative: true, cause: cause}
	case unix.SIGTTOU:
		return evScale{n: -1, relative: true, cause: cause}
	case unix.SIGWINCH:
		if !hasTerminal() {
			return evDrain{cause: cause}
		}
	case unix.SIGUSR1:
		return evReopen{cause: cause}
	case unix.SIGUSR2:
		return evUpgrade{cause: cause}
	}
	return evTick{}
}

// hasTerminal reports whether this process has a controlling terminal. To one that has, SIGWINCH says that its window has another
// size.
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// idleLoop calls the hook of that name every so often, unless the last call still runs.
func (l *loop) idleLoop(t *time.Ticker) {
	defer t.Stop()
	running := make(chan struct{}, 1)
	for {
		select {
		case <-t.C:
		case <-l.done:
			return
		}
		select {
		case running <- struct{}{}:
			l.gate.RLock() // none while the parent's program is replaced
			l.hooks.do("IdleLoop", func() {
				defer func() { <-running }()
				l.cfg.IdleLoop(l.Parent)
			})
			l.gate.RUnlock()
		default:
		}
	}
}

// readBell waits for children that were asked to ring when they become busy.
func (l *loop) readBell() {
	fd, err := unix.FcntlInt(uintptr(l.bell), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		l.log.Error("cannot hear children ring", "err", os.NewSyscallError("fcntl", err))
		return
	}
	f := os.NewFile(uintptr(fd), "bell")
	go func() {
		<-l.done
		f.Close()
	}()
	buf := make([]byte, 8)
	for {
		if _, err := f.Read(buf); err != nil {
			return
		}
		l.post(evRung{})
	}
}
