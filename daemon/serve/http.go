package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brooddaemon/brood/daemon"
)

// HTTP returns a main loop that serves srv on every address the daemon listens on; over TLS where the listener has a certificate
// (cert and key, see daemon.Config.Listen), or everywhere if srv.TLSConfig has one. Then that is what clients see. The rest of
// srv.TLSConfig, such as ClientAuth, holds in both cases.
//
// A request is a job: its method and path stand on the scoreboard, and its context ends when its client has left and
// the policy is to cancel. (net/http ends it on its own account, too, whenever it sees the client leave; but not at a FIN
// alone, unless Config.HalfClose says that this means it.) At
// Concurrency 1 connections are not kept alive, because an idle client must not own a child, and HTTP/2 is off; otherwise a kept
// connection counts as a job only while a request runs on it.
//
// A draining child loses nothing: it answers what still comes on kept connections with Connection: close, and closes
// idle ones only after Config.LingerTimeout. (http.Server.Shutdown would drop requests that are already on their way:
// golang/go#36819.) srv is changed: its Handler, ConnState, ConnContext, TLSConfig and keep-alive setting are wrapped.
func HTTP(srv *http.Server) func(context.Context, *daemon.Child) error {
	return func(ctx context.Context, c *daemon.Child) error {
		ls, err := c.Listeners()
		if err != nil {
			return nil // the child drains already
		}
		h := &httpLoop{srv: srv, linger: c.LingerTimeout(), single: c.Concurrency() == 1, patient: c.HalfClose() != daemon.HalfCloseGone,
			logs: c.Logs(), open: map[net.Conn]*link{}, changed: make(chan struct{}, 1)}
		h.wrap()
		stop := context.AfterFunc(ctx, h.close)
		defer stop()
		failed := make(chan error, len(ls))
		secure := hasCertificate(srv.TLSConfig) // which Serve changes
		if !secure {
			srv.TLSConfig = withCertificates(srv.TLSConfig, ls)
		}
		for _, l := range ls { // all of them before the first accepts, for them all
			l.Await, l.OwnTLS = true, true
		}
		for _, l := range ls {
			go func() {
				if secure || certified(l) {
					failed <- srv.ServeTLS(l, "", "")
				} else {
					failed <- srv.Serve(l)
				}
			}()
		}
		for range ls {
			// Also when ctx ends: what has been accepted by then is known only when Serve has returned.
			if err := <-failed; ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				return err
			}
		}
		<-ctx.Done()
		h.drain()
		return nil
	}
}

func hasCertificate(c *tls.Config) bool {
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}

func certified(l *daemon.Listener) bool { return l.TLSConfig() != nil }

// withCertificates has each client see the certificate of the listener that he has come to, if any of them has one.
func withCertificates(c *tls.Config, ls []*daemon.Listener) *tls.Config {
	if !slices.ContainsFunc(ls, certified) {
		return c
	}
	if c = c.Clone(); c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	// Said here it holds whoever serves first: a listener in the clear would have net/http leave HTTP/2 out for all of them.
	if !slices.Contains(c.NextProtos, "h2") {
		c.NextProtos = append(slices.Clone(c.NextProtos), "h2")
	}
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &hello.Conn.(*daemon.Conn).TLSConfig().Certificates[0], nil
	}
	return c
}

// An httpLoop follows the connections of one server.
type httpLoop struct {
	srv     *http.Server
	linger  time.Duration
	single  bool // one job per child
	patient bool // a FIN is not all that it takes to leave
	logs    bool // requests stand in the access log
	drained atomic.Bool
	mu      sync.Mutex
	open    map[net.Conn]*link
	changed chan struct{} // a connection was closed or became idle, since the drain has begun
}

func (h *httpLoop) wrap() {
	handler, connState, connContext := h.srv.Handler, h.srv.ConnState, h.srv.ConnContext
	if handler == nil {
		handler = http.DefaultServeMux
	}
	if h.single {
		h.srv.SetKeepAlivesEnabled(false)
		// HTTP/2 would put many requests on one connection.
		h.srv.Protocols = new(http.Protocols)
		h.srv.Protocols.SetHTTP1(true)
	}
	h.srv.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, nc)
		}
		l := h.linkOf(nc)
		l.ctx = ctx
		return context.WithValue(ctx, linkKey{}, l)
	}
	h.srv.ConnState = func(nc net.Conn, st http.ConnState) {
		h.follow(nc, st)
		if connState != nil {
			connState(nc, st)
		}
	}
	h.srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.drained.Load() {
			// For HTTP/2 net/http makes a GOAWAY of it.
			w.Header().Set("Connection", "close")
		}
		ctx := r.Context()
		from, _ := ctx.Value(linkKey{}).(*link)
		if from == nil || from.conn == nil {
			handler.ServeHTTP(w, r)
			return
		}
		conn := from.conn
		// The streams of HTTP/2 end one by one, and with a FIN all of them.
		if h.patient && r.ProtoMajor == 1 {
			var free context.CancelFunc
			ctx, free = from.outlive(ctx)
			defer free()
		}
		ctx, cancel := from.begin(ctx, r)
		defer cancel()
		var count *tally // nil: there is no access log
		if h.logs {
			entry := conn.Log(daemon.Request{Line: r.Method + " " + r.RequestURI + " " + r.Proto, Referer: r.Referer(), UserAgent: r.UserAgent()})
			w, count = counted(w, r.ProtoMajor, entry)
		}
		defer func() { h.end(from, count) }()
		handler.ServeHTTP(w, r.WithContext(ctx))
		if count != nil {
			count.returned, count.gone = true, hasLeft(ctx)
		}
	})
}

// end counts a request out, and ends its line in the access log. With the last one the job is over. What is left is to send the
// answer: who leaves when he has it was served.
func (h *httpLoop) end(l *link, count *tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	// A connection that a handler has taken for itself is a job until it is closed.
	last := l.running == 0 && !l.taken
	if last && (h.single || count != nil) {
		l.conn.Finish() // before the line is ended, which tells whether the client has left
	}
	if count != nil {
		count.end()
	}
	if last && !h.single {
		l.conn.Idle()
	}
}

// linkOf returns what is known of a connection, from when it is first heard of.
func (h *httpLoop) linkOf(nc net.Conn) *link {
	conn := job(nc)
	if conn != nil {
		if l, ok := conn.Server.(*link); ok {
			return l
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.open[nc]
	if l == nil {
		l = &link{conn: conn}
		h.open[nc] = l
		if conn != nil {
			conn.Server = l
		}
	}
	return l
}

// forget drops a connection that is closed, or not this server's any more.
func (h *httpLoop) forget(nc net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, nc)
}

// follow keeps the list of open connections.
func (h *httpLoop) follow(nc net.Conn, st http.ConnState) {
	l := h.linkOf(nc)
	switch st {
	case http.StateNew:
		l.opened(nc, h.single)
	case http.StateHijacked:
		l.hijacked()
		h.forget(nc)
	case http.StateClosed:
		h.forget(nc)
	default:
		l.busy.Store(st == http.StateActive)
	}
	// After what it looks at has been stored: either the drain sees it, or the drain is seen here.
	if h.drained.Load() {
		h.changes(l)
	}
}

// changes tells the drain that a connection is another one than it was.
func (h *httpLoop) changes(l *link) {
	h.mu.Lock()
	l.since = time.Now()
	h.mu.Unlock()
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// close makes every answer from now on the last one on its connection.
func (h *httpLoop) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drained.Store(true)
}

// drain returns when no connection is left. Nothing is accepted any more.
//
// Every connection has the whole of the linger time, from now or from when it becomes idle: who was answered before the
// drain began does not know yet that he is to leave.
func (h *httpLoop) drain() {
	h.close()
	begun := time.Now()
	timer := time.NewTimer(h.linger)
	defer timer.Stop()
	for {
		var late []net.Conn
		wait := h.linger
		h.mu.Lock()
		for nc, l := range h.open {
			since := l.since
			if l.busy.Load() {
				continue
			}
			if since.Before(begun) {
				since = begun
			}
			if left := h.linger - time.Since(since); left > 0 {
				wait = min(wait, left)
			} else {
				late = append(late, nc)
			}
		}
		left := len(h.open)
		h.mu.Unlock()
		if left == 0 {
			return
		}
		for _, nc := range late {
			nc.Close()
		}
		timer.Reset(wait)
		select {
		case <-h.changed:
		case <-timer.C:
		}
	}
}
