package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"

	"github.com/brooddaemon/brood/internal/rules"
	"github.com/brooddaemon/brood/scoreboard"
)

// A route is what the PROXY protocol tells of a connection. c.mu is held to change it; once the program has the connection it stays.
type route struct {
	later  kind     // of the job, as soon as it is known whose it is
	client net.Addr // nil: he has come by himself
	server net.Addr // that he has connected to
}

// unknownClient is how the job begins of somebody who has not said for whom he comes: the child is busy with him, and if he leaves
// nobody has been lost.
var unknownClient = kind{first: scoreboard.Reading, await: true}

// greet finds out who the client is of a connection that a proxy has made, and whether he may connect. It is called on a goroutine for
// which nobody else waits: a proxy may be silent. If it returns false, nobody is to be served, and the connection is closed.
func (conn *Conn) greet() bool {
	h, err := conn.readHeader()
	if err != nil {
		conn.turnAway(err)
		return false
	}
	c := conn.c
	j := conn.running()
	client, server := endsOf(h)
	if !c.rules.Empty() && !c.admits(conn.ruled(client)) {
		conn.refuse()
		return false
	}
	c.mu.Lock()
	conn.client, conn.server = client, server
	conn.kind = conn.later
	j.state, j.answered = conn.first, conn.await
	if c.shown == j.serial {
		c.show()
	}
	c.mu.Unlock()
	conn.recallHost()
	if c.tellsJobs && !conn.await {
		c.enterOwn(j)
	}
	conn.findHost(j)
	conn.check() // until now nobody would have missed him
	return true
}

// turnAway ends a connection that is not served. Who has come and gone without a word, as those do who only want to know whether
// somebody listens, is no news.
func (conn *Conn) turnAway(why error) {
	c := conn.c
	switch {
	case errors.Is(why, io.EOF):
		c.board.Skip()
	case context.Cause(conn.Context()) == nil:
		c.complain("a connection from %s to listener %s has been closed: %v", conn.clientName(), conn.from.name, why)
	}
	conn.dismiss()
}

// refuse is accepted.refuse for a connection.
func (conn *Conn) refuse() {
	if conn.tcp {
		conn.control(func(fd int) error {
			closeByReset(fd)
			return nil
		})
	}
	conn.dismiss()
}

// dismiss closes a connection that is not served; its job was none.
func (conn *Conn) dismiss() {
	conn.Close()
	if j := conn.drop(); j != nil {
		conn.c.end(j, false)
	}
}

// ruled is the client as access rules see him: nil is a proxy that has come for itself.
func (conn *Conn) ruled(client net.Addr) (who rules.Peer) {
	switch a := client.(type) {
	case *net.TCPAddr:
		return rules.Peer{Addr: a.AddrPort().Addr()}
	case *net.UnixAddr:
		return rules.Peer{Unix: new(rules.Process)} // nobody says who that was
	}
	if conn.tcp {
		return rules.Peer{Addr: conn.peer.Addr()}
	}
	conn.control(func(fd int) error {
		who = accepted{fd: fd, from: conn.from}.client()
		return nil
	})
	return who
}

// proxied returns the address of a client who has come by a proxy; it is not valid if he came to that by a Unix socket.
func (conn *Conn) proxied() (client netip.AddrPort, ok bool) {
	return tcpAddr(conn.client), conn.client != nil
}

// clientIP is the address of the client's host; not valid: he is on a Unix socket.
func (conn *Conn) clientIP() netip.Addr {
	if client, ok := conn.proxied(); ok {
		return client.Addr()
	}
	return conn.peer.Addr()
}

// tcpAddr is a TCP address as a value; not valid: a is none.
func tcpAddr(a net.Addr) netip.AddrPort {
	tcp, _ := a.(*net.TCPAddr)
	return tcp.AddrPort()
}
