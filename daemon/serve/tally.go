package serve

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/brooddaemon/brood/daemon"
)

// A tally counts what a handler answers, for the access log.
type tally struct {
	http.ResponseWriter
	entry  *daemon.Entry
	status int // 0: nothing yet
	bytes  int64
	taken  bool // the connection is the handler's

	returned bool // the handler has, and did not panic
	gone     bool // and its client had left by then, or given up the stream
}

// errPanic stands for what net/http makes of a handler that panics.
var errPanic = errors.New("the handler has panicked")

// end ends the line of the request in the access log.
func (t *tally) end() {
	switch {
	case !t.returned:
		t.entry.End(t.status, t.bytes, errPanic)
	case t.taken: // it goes on, until the connection is closed
		t.entry.EndWithJob(t.status)
	case t.gone:
		t.entry.End(t.status, t.bytes, daemon.ErrClientGone)
	case t.status == 0:
		t.entry.End(http.StatusOK, t.bytes, nil) // what net/http answers then
	default:
		t.entry.End(t.status, t.bytes, nil)
	}
}

// hasLeft reports whether the context of a request has ended because its client has left. Whatever else ends it, he is answered.
func hasLeft(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return cause != nil && !errors.Is(cause, daemon.ErrJobTimeout) && !errors.Is(cause, daemon.ErrEvicted) && !errors.Is(cause, daemon.ErrStopping)
}

// counted returns w with a tally. What net/http's own writers can do beyond http.ResponseWriter, this one can, too.
func counted(w http.ResponseWriter, major int, entry *daemon.Entry) (http.ResponseWriter, *tally) {
	t := &tally{ResponseWriter: w, entry: entry}
	if major > 1 {
		return &streamTally{t}, t
	}
	return &plainTally{t}, t
}

// WriteHeader notes the status, of several the one that holds.
func (t *tally) WriteHeader(status int) {
	if t.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		t.status = status
	}
	t.ResponseWriter.WriteHeader(status)
}

// wrote notes what a write has done, which may have begun the answer.
func (t *tally) wrote(n int64) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	t.bytes += n
}

// Write counts.
func (t *tally) Write(p []byte) (int, error) {
	n, err := t.ResponseWriter.Write(p)
	t.wrote(int64(n))
	return n, err
}

// WriteString counts.
func (t *tally) WriteString(s string) (int, error) {
	n, err := io.WriteString(t.ResponseWriter, s)
	t.wrote(int64(n))
	return n, err
}

// Flush begins the answer if nothing has.
func (t *tally) Flush() {
	t.wrote(0)
	http.NewResponseController(t.ResponseWriter).Flush()
}

// FlushError is Flush for http.ResponseController.
func (t *tally) FlushError() error {
	t.wrote(0)
	return http.NewResponseController(t.ResponseWriter).Flush()
}

// CloseNotify is for handlers that are older than a request's context, and do not ask whether it is there.
func (t *tally) CloseNotify() <-chan bool {
	if n, ok := t.ResponseWriter.(interface{ CloseNotify() <-chan bool }); ok {
		return n.CloseNotify()
	}
	return make(chan bool)
}

// Unwrap is for http.ResponseController.
func (t *tally) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// A plainTally is one of HTTP/1.
type plainTally struct{ *tally }

// Hijack gives the connection to the handler.
func (t *plainTally) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	t.taken = t.taken || err == nil
	return conn, rw, err
}

// ReadFrom copies in the kernel where net/http can.
func (t *plainTally) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(t.ResponseWriter, r)
	t.wrote(n)
	return n, err
}

// A streamTally is one of HTTP/2.
type streamTally struct{ *tally }

// Push begins another answer.
func (t *streamTally) Push(target string, opts *http.PushOptions) error {
	if p, ok := t.ResponseWriter.(http.Pusher); ok {
		return p.Push(target, opts)
	}
	return http.ErrNotSupported
}
