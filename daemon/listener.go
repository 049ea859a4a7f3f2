package daemon

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/brooddaemon/brood/scoreboard"
)

// A Listener is an inherited listening socket as a net.Listener, for libraries that accept themselves.
type Listener struct {
	// Await makes every connection begin as if Conn.Await had been called: a client who leaves before Conn.Describe is not
	// missed. For servers that know when a request begins. Set it before the first Accept.
	Await bool
	// OwnTLS leaves TLS to the server that accepts: connections of a listener with a certificate come as they are, and the server does
	// the rest with TLSConfig, as serve.HTTP does, whose requests know of TLS then and may be HTTP/2. Otherwise they speak TLS by
	// themselves. Set it before the first Accept on any of them.
	OwnTLS bool

	hub    *hub
	source *childListener
	conns  chan *Conn
	closed chan struct{}
	once   sync.Once
}

// A hub accepts for all listeners of a child and hands each connection to its own: a child with room for one job has to
// wait on all of them at once.
type hub struct {
	c         *Child
	listeners []*Listener
	start     sync.Once
	over      chan struct{} // closed when nothing more is accepted
	err       error         // why
}

// Listeners returns one listener for each address that the daemon is bound to, in order.
//
// Accept waits while the child runs as many jobs as its Concurrency. The connection is a *Conn; its job begins with
// Accept and ends with Close. Accept returns net.ErrClosed when the child drains. Every listener that is not closed must
// be accepted from: one that nobody serves holds up the others. The error is ErrDraining in a child that drains already.
func (c *Child) Listeners() ([]*Listener, error) {
	if c.isDraining() {
		return nil, ErrDraining
	}
	h := &hub{c: c, over: make(chan struct{})}
	for _, l := range c.listeners {
		if l.first != l {
			continue
		}
		h.listeners = append(h.listeners, &Listener{
			hub: h, source: l, conns: make(chan *Conn), closed: make(chan struct{}),
		})
	}
	return h.listeners, nil
}

// run accepts until the child drains.
func (h *hub) run() {
	defer close(h.over)
	var passed sync.WaitGroup
	defer passed.Wait()
	for {
		acc, err := h.c.take(context.Background())
		if err != nil {
			h.err = err
			return
		}
		if h.c.rules.Named() || acc.from.spec.Proxy != "" { // whoever is waited for keeps nobody else waiting, for whom there is room
			passed.Go(func() { h.pass(acc) })
		} else {
			h.pass(acc)
		}
	}
}

// pass hands a connection to its listener.
func (h *hub) pass(acc accepted) {
	l := h.of(acc.from)
	conn := h.c.welcome(acc, kind{first: scoreboard.Reading, onClose: true, await: l.Await, bare: l.OwnTLS})
	if conn == nil {
		return
	}
	select {
	case l.conns <- conn:
	case <-l.closed:
		conn.Close()
	}
}

func (h *hub) of(from *childListener) *Listener {
	for _, l := range h.listeners {
		if l.source == from {
			return l
		}
	}
	return nil // not possible: both lists are made of the child's listeners
}

// Accept waits for room for a job and then for a connection, a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	l.hub.start.Do(func() { go l.hub.run() })
	err := net.ErrClosed
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
	case <-l.hub.over:
		if !l.hub.c.isDraining() {
			err = l.hub.err
		}
	}
	return nil, &net.OpError{Op: "accept", Net: l.source.addr.Network(), Addr: l.source.addr, Err: err}
}

// TLSConfig returns what a server needs that speaks TLS itself on this listener: its certificate, for TLS 1.2 and later. nil: it has none.
func (l *Listener) TLSConfig() *tls.Config { return l.source.tls.Clone() }

// Close makes Accept return, and this child accept no more on the socket. It stays open for the other children.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.hub.c.acceptor.remove(l.source)
		close(l.closed)
	})
	return nil
}

// Name returns what the listener is called: what its entry in Config.Listen says with name=, for fd:NAME what the service manager calls
// it, else its address as it was asked for, such as ":80" or "/run/x.sock". The addresses of an entry with a name share it.
func (l *Listener) Name() string { return l.source.name }

// Addr returns the address that the socket is bound to.
func (l *Listener) Addr() net.Addr { return l.source.addr }
