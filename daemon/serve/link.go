package serve

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brooddaemon/brood/daemon"
)

// A link is a connection that is open.
type link struct {
	conn  *daemon.Conn    // nil: it is not the daemon's
	ctx   context.Context // that of its requests, before net/http has made it end with the connection
	busy  atomic.Bool     // a request runs or is answered
	since time.Time       // when it has become idle, if that was during a drain; mu of the httpLoop

	mu      sync.Mutex
	running int  // requests: there may be several on a connection of HTTP/2
	taken   bool // hijacked by one that runs
	asked   asked
}

// An asked is what was asked for last: a client who keeps his connection often asks for the same again.
type asked struct{ method, path, text string }

// describe returns what the scoreboard says of a request.
func (a *asked) describe(r *http.Request) string {
	if r.Method != a.method || r.URL.Path != a.path {
		*a = asked{r.Method, r.URL.Path, r.Method + " " + r.URL.Path}
	}
	return a.text
}

// linkKey finds the link of a request in its context.
type linkKey struct{}

// outlive returns ctx without what net/http makes of a FIN: it ends with the connection's own context alone.
func (l *link) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}
}

// job finds the daemon's connection beneath TLS.
func job(nc net.Conn) *daemon.Conn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	conn, _ := nc.(*daemon.Conn)
	return conn
}

// opened says what kind of connection it is, on which nothing has been asked for yet: for a drain it is as idle as a kept one.
func (l *link) opened(nc net.Conn, single bool) {
	if l.conn == nil {
		return
	}
	l.conn.SetReadAhead(nc == net.Conn(l.conn)) // beneath TLS nobody reads single bytes
	if !single {                                // else the connection is the job
		l.conn.Idle()
	}
}

// begin counts a request in, and returns its context. The first one begins the job.
func (l *link) begin(ctx context.Context, r *http.Request) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running++
	text := l.asked.describe(r)
	if r.ProtoMajor == 1 {
		return l.conn.Begin(ctx, text), func() {} // it ends with the job
	}
	l.conn.Describe(text)
	return l.conn.With(ctx)
}

// hijacked notes that a request has taken the connection for itself.
func (l *link) hijacked() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = l.running > 0
	if l.conn != nil {
		l.conn.SetReadAhead(false)
	}
}
