package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/inherit"
)

var (
	errPipe  = error(unix.EPIPE)
	errReset = error(unix.ECONNRESET)
)

// maxOperators is how many operators' connections are served at once.
const maxOperators = 8

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
	l.deafen = func() { signal.Stop(l.signals) }
	go l.readBell()
	go l.serveOperators(operators)
	go l.spawner.run()
	go l.undertaker.run()
	go l.reapStrangers()
	go l.hooks.run()
	if l.cfg.IdleLoop != nil {
		go l.idleLoop()
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
var wishes = []os.Signal{unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE}

// ends are the signals that end it.
var ends = []os.Signal{unix.SIGTERM, unix.SIGQUIT, unix.SIGINT}

// hearSignals makes the loop be told of signals.
func (l *loop) hearSignals() { signal.Notify(l.signals, append(wishes, ends...)...) }

// listenOperators opens the control socket, or takes over the one that was handed over.
func (l *loop) listenOperators() (*net.UnixListener, error) {
	if l.handed != nil {
		return control.Adopt(l.handed.Operators)
	}
	return control.Listen(l.cfg.RunDir)
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
	case unix.SIGUSR1:
		return evReopen{cause: cause}
	case unix.SIGUSR2:
		return evUpgrade{cause: cause}
	}
	return evTick{}
}

// idleLoop calls the hook of that name every so often, unless the last call still runs.
func (l *loop) idleLoop() {
	t := time.NewTicker(l.cfg.IdleEvery)
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

// serveOperators answers those who steer the daemon from outside.
func (l *loop) serveOperators(ln *net.UnixListener) {
	// Package net waits for nothing but accept(2).
	queue, err := dupFile(ln, "control socket")
	if err != nil {
		l.log.Error("cannot hear operators", "err", err)
		return
	}
	go func() {
		<-l.done
		queue.Close()
	}()
	free := make(chan struct{}, maxOperators)
	for {
		free <- struct{}{}
		err := readable(queue)
		if err != nil {
			return
		}
		c, err := l.acceptOperator(ln)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // descriptors or memory have run out, which passes
			<-free
			if l.mayPrint() {
				l.log.Error("control socket", "err", err)
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go func() {
			defer func() { <-free }()
			l.serveOperator(c)
		}()
	}
}

// dupFile makes a file of a duplicate of the descriptor that c has.
func dupFile(c syscall.Conn, name string) (*os.File, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, err := inherit.Dup(rc)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// acceptOperator takes the next one off the queue, who is there, while the gate is open.
func (l *loop) acceptOperator(ln *net.UnixListener) (*net.UnixConn, error) {
	l.gate.RLock()
	defer l.gate.RUnlock()
	c, err := ln.AcceptUnix()
	if err == nil {
		l.succession.await(c, control.Request{})
	}
	return c, err
}

// readable waits until there is something to be read, or accepted. The error says that it has been closed, or that its time is
// over.
func readable(c syscall.Conn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Read(func(fd uintptr) bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0
	})
}

// receiveOperator takes his request, while the gate is open, and passes it on. It returns where the answer will be.
func (l *loop) receiveOperator(c *net.UnixConn) <-chan error {
	c.SetReadDeadline(time.Now().Add(control.RequestTime))
	readable(c) // else Receive says what is wrong
	l.gate.RLock()
	defer l.gate.RUnlock()
	answer := make(chan error, 1)
	req, peer, err := control.Receive(c)
	if err != nil {
		l.log.Warn("operator refused", "uid", peer.UID, "pid", peer.PID, "err", err)
		answer <- err
		return answer
	}
	l.succession.await(c, req)
	l.log.Info("operator", "verb", req.Verb, "uid", peer.UID, "pid", peer.PID)
	l.post(l.wish(req, fmt.Sprintf("operator uid=%d", peer.UID), answer))
	return answer
}

// wish is the event of a request.
func (l *loop) wish(req control.Request, cause string, answer chan<- error) event {
	reply := func(err error) { answer <- err }
	if req.Begin {
		answer <- nil
		reply = nil
	}
	switch req.Verb {
	case control.VerbReload:
		return evReload{cause: cause, reply: reply}
	case control.VerbUpgrade:
		return evUpgrade{cause, reply} // the new program answers, unless it fails
	case control.VerbScale:
		return evScale{n: req.N, relative: req.Delta, cause: cause, reply: reply}
	case control.VerbReopen:
		return evReopen{cause, reply}
	}
	answer <- nil
	if req.Quick {
		return evStop{stopQuick, cause}
	}
	return evStop{stopDrain, cause}
}

func (l *loop) serveOperator(c *net.UnixConn) { l.answerOperator(c, l.receiveOperator(c)) }

// answerOperator tells an operator how it went, and closes the connection.
func (l *loop) answerOperator(c *net.UnixConn, answer <-chan error) {
	defer c.Close()
	defer l.succession.answered(c)
	// Who gives up waiting makes room for others.
	left := make(chan struct{})
	go func() {
		c.SetReadDeadline(time.Time{})
		c.Read(make([]byte, 1))
		close(left)
	}()
	var err error
	select {
	case err = <-answer:
	case <-left:
		return
	case <-l.done:
		select {
		case err = <-answer:
		default:
			err = errors.New("the daemon has stopped")
		}
	}
	if err != nil {
		control.Answer(c, control.Reply{Error: err.Error()})
		return
	}
	control.Answer(c, control.Reply{OK: true})
}
