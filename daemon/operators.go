package daemon

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
)

// maxOperators is how many operators' connections are served at once.
const maxOperators = 8

// listenOperators opens the control socket, or takes over the one that was handed over.
func (l *loop) listenOperators() (*net.UnixListener, error) {
	if l.handed != nil {
		return control.Adopt(l.handed.Operators)
	}
	return control.Listen(l.cfg.RunDir)
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

// hungUp waits until the other end of a Unix socket has been closed, not only for writing, or this one has.
func hungUp(c syscall.Conn) {
	rc, err := c.SyscallConn()
	if err != nil {
		return
	}
	rc.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd)}}
		n, _ := unix.Poll(poll, 0)
		return n > 0
	})
}

// receiveOperator takes his request, while the gate is open, and passes it on. Who takes his time for it is not waited for inside: a
// gate that is to be closed lets nobody in, and so nobody would listen to children.
func (l *loop) receiveOperator(c *net.UnixConn) *operator {
	late := control.Await(c)
	l.gate.RLock()
	defer l.gate.RUnlock()
	req, peer, err := control.Request{}, control.Peer{}, late
	if late != nil {
		peer, _ = control.PeerOf(c)
	} else {
		req, peer, err = control.Receive(c)
	}
	if err != nil {
		l.log.Warn("operator refused", "uid", peer.UID, "pid", peer.PID, "err", err)
		o := newOperator(c, control.Request{})
		o.reply(err)
		return o
	}
	o := l.succession.await(c, req)
	switch {
	case req.Verb == control.VerbStatus, req.Verb == control.VerbEvents, req.Verb == control.VerbLogLevel && req.Level == "":
		o.answer <- l.tellOperator(req) // nothing is changed, so it is no event
		return o
	}
	said := []any{"verb", req.Verb, "uid", peer.UID, "pid", peer.PID}
	for _, of := range []struct {
		name string
		is   bool
		what any
	}{
		{"quick", req.Quick, true}, {"child", req.PID != 0, req.PID}, {"level", req.Level != "", req.Level},
	} {
		if of.is {
			said = append(said, of.name, of.what)
		}
	}
	l.log.Info("operator", said...)
	l.post(l.wish(req, fmt.Sprintf("operator uid=%d", peer.UID), o.reply))
	return o
}

// wish is the event of a request.
func (l *loop) wish(req control.Request, cause string, reply func(error)) event {
	if req.Begin && req.Verb != control.VerbDrain {
		reply(nil)
		reply = nil
	}
	switch req.Verb {
	case control.VerbReload:
		return evReload{cause: cause, reply: reply}
	case control.VerbUpgrade:
		return evUpgrade{cause, reply} // the new program answers, unless it fails
	case control.VerbScale:
		return evScale{n: req.N, relative: req.Delta, cause: cause, reply: reply}
	case control.VerbDrain:
		return evDrain{pid: req.PID, begin: req.Begin, cause: cause, reply: reply}
	case control.VerbReopen:
		return evReopen{cause, reply}
	case control.VerbLogLevel:
		return evLogLevel{req.Level, cause, reply}
	}
	// Who stops the daemon has his answer when the loop has ended.
	if req.Quick {
		return evStop{stopQuick, cause}
	}
	return evStop{stopDrain, cause}
}

func (l *loop) serveOperator(c *net.UnixConn) { l.answerOperator(l.receiveOperator(c)) }

// answerOperator tells an operator how far it is, and how it went, and closes the connection.
func (l *loop) answerOperator(o *operator) {
	defer o.conn.Close()
	defer l.succession.answered(o.conn)
	// Who gives up waiting makes room for others. One who only says that he will ask for nothing else waits for his answer.
	left := make(chan struct{})
	go func() {
		o.conn.SetReadDeadline(time.Time{})
		hungUp(o.conn)
		close(left)
	}()
	for {
		select {
		case text := <-o.progress:
			control.Tell(o.conn, text) // who is not there any more is noticed below
			continue
		case reply := <-o.answer:
			control.Answer(o.conn, l.complete(o, reply))
		case <-left:
		case <-l.done:
			control.Answer(o.conn, l.complete(o, o.last()))
		}
		return
	}
}

// complete adds what an operator is to know beside that it went well.
func (l *loop) complete(o *operator, r control.Reply) control.Reply {
	if r.OK && o.req.Verb == control.VerbLogLevel {
		r.Text = l.level.word()
	}
	if r.OK && o.req.Verb == control.VerbReload && !o.req.Begin {
		r.Text = l.now().refused
	}
	return r
}
