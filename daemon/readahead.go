package daemon

import (
	"sync/atomic"
	"time"
)

// A readAhead is what is known of the byte that a server reads while a request runs.
type readAhead struct {
	on    atomic.Bool
	armed atomic.Pointer[Job]           // the first such read of this job may wait here
	waits atomic.Pointer[chan struct{}] // for its end; nil: nobody does
}

// SetReadAhead says whether the connection's server reads a byte ahead while a request runs, as net/http does: it has no other way to
// notice that the client leaves, and takes the read back, with a deadline, when the request is over. For a short request that is a good
// part of the work, and the daemon notices anyhow. So a Read of a single byte, the first in a job that Begin has begun, does not
// ask the kernel before there is something to notice: the client has left, a deadline has been set, or the connection is closed. If the
// job is over first it returns 0 and no error.
//
// It is off until it is switched on, and has no effect where the daemon cannot notice by itself: over TLS, on Unix sockets, or if the
// connection could not be watched. Any goroutine may call it.
func (conn *Conn) SetReadAhead(on bool) {
	_, tcp := conn.Conn.(*socket)
	conn.ahead.on.Store(on && tcp && conn.watched && conn.secure == nil)
	conn.ahead.armed.Store(nil)
	conn.rouse()
}

// arm has the first byte that is read ahead in a job that has begun wait.
func (a *readAhead) arm(j *Job) {
	if a.on.Load() {
		a.armed.Store(j)
	}
}

// spared has the byte that is read ahead wait, and reports whether the job was over before there was anything to read it for.
func (conn *Conn) spared() bool {
	j := conn.ahead.armed.Swap(nil)
	if j == nil {
		return false
	}
	s := conn.Conn.(*socket)
	if conn.running() != j {
		// Either the read is taken back by now, or it is that of the next request, which has not begun yet.
		return s.overdue()
	}
	over := make(chan struct{})
	conn.ahead.waits.Store(&over)
	// Whoever changes one of these does so first, and then looks who waits.
	if conn.running() == j && conn.ahead.on.Load() && !conn.seen.Load() && s.read.never.Load() {
		<-over
	}
	conn.ahead.waits.CompareAndSwap(&over, nil)
	return conn.running() != j
}

// rouse ends the wait of the byte that is read ahead.
func (conn *Conn) rouse() {
	if conn.ahead.waits.Load() == nil {
		return
	}
	if over := conn.ahead.waits.Swap(nil); over != nil {
		close(*over)
	}
}

// SetReadDeadline sets the deadline of reading; see net.Conn.
func (conn *Conn) SetReadDeadline(t time.Time) error {
	err := conn.Conn.SetReadDeadline(t)
	if !t.IsZero() {
		conn.rouse()
	}
	return err
}

// SetDeadline sets those of reading and writing; see net.Conn.
func (conn *Conn) SetDeadline(t time.Time) error {
	err := conn.Conn.SetDeadline(t)
	if !t.IsZero() {
		conn.rouse()
	}
	return err
}
