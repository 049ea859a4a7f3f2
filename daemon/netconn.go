package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

var errNotShaken = errors.New("close write: there has been no TLS handshake, which the first Read or Write makes")

// CloseWrite shuts down the writing side; over TLS it says so there first.
func (conn *Conn) CloseWrite() error {
	if conn.secure != nil && !conn.shaken.Load() {
		return errNotShaken
	}
	conn.shutWrite.Store(true)
	if j := conn.running(); j != nil {
		// Before it takes effect: what follows is no client's doing, and a Unix socket does not show who has ended what.
		conn.c.redraw(j)
	}
	if conn.secure != nil {
		if err := conn.secure.CloseWrite(); err != nil {
			return err
		}
	}
	if cw, ok := conn.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("close write %T: %w", conn.Conn, unix.EOPNOTSUPP)
}

// Read reads what the client has said.
func (conn *Conn) Read(p []byte) (n int, err error) {
	if len(p) == 1 && conn.spared() {
		return 0, nil
	}
	if conn.secure == nil {
		n, err = conn.Conn.Read(p)
	} else if err = conn.shake(); err == nil {
		n, err = conn.secure.Read(p)
	}
	if d := conn.c.acceptor.duty; d != nil {
		d.hear()
	}
	conn.note(err)
	return n, err
}

// note remembers that something is amiss.
func (conn *Conn) note(err error) {
	if err == nil {
		return
	}
	if late, ok := err.(net.Error); !ok || !late.Timeout() {
		conn.hurt.Store(true)
	}
}

// Write writes to the client.
func (conn *Conn) Write(p []byte) (n int, err error) {
	if conn.secure == nil {
		n, err = conn.Conn.Write(p)
	} else if err = conn.shake(); err == nil {
		n, err = conn.secure.Write(p)
	}
	conn.sent.Add(int64(n))
	conn.note(err)
	return n, err
}

// ReadFrom copies from r to the connection, inside the kernel where it can.
func (conn *Conn) ReadFrom(r io.Reader) (int64, error) {
	rf, ok := conn.Conn.(io.ReaderFrom)
	if !ok || conn.secure != nil {
		return io.Copy(struct{ io.Writer }{conn}, r)
	}
	n, err := rf.ReadFrom(r)
	conn.sent.Add(n)
	conn.note(err)
	return n, err
}

// SyscallConn gives access to the descriptor, beneath TLS.
func (conn *Conn) SyscallConn() (syscall.RawConn, error) {
	return conn.Conn.(syscall.Conn).SyscallConn()
}

// control calls f with the descriptor, unless it is closed. f must not call the connection.
func (conn *Conn) control(f func(fd int) error) error {
	if s, ok := conn.Conn.(*socket); ok {
		return s.control(f)
	}
	return controlFile(conn.Conn.(syscall.Conn), f)
}

// RemoteAddr returns the client's address, also when the client has reset the connection before it was accepted. Of a client who has
// come by a proxy it is what the PROXY protocol tells, a *net.TCPAddr or a *net.UnixAddr; a proxy that has come for itself, as to see
// whether the daemon is there, is the client.
func (conn *Conn) RemoteAddr() net.Addr {
	if conn.client != nil {
		return conn.client
	}
	return conn.wireAddr()
}

// LocalAddr returns the address that the client has connected to. Of a client who has come by a proxy it is what the PROXY protocol
// tells, which is one of the proxy's.
func (conn *Conn) LocalAddr() net.Addr {
	if conn.server != nil {
		return conn.server
	}
	return conn.Conn.LocalAddr()
}

// wireAddr is the address of the other end, whoever he speaks for.
func (conn *Conn) wireAddr() net.Addr {
	if conn.tcp {
		return net.TCPAddrFromAddrPort(conn.peer)
	}
	return conn.Conn.RemoteAddr()
}

// endpoints returns both addresses of a TCP connection, and the path of a Unix one, as the kernel has them.
func (conn *Conn) endpoints() (local, foreign netip.AddrPort, path string) {
	switch a := conn.Conn.LocalAddr().(type) {
	case *net.TCPAddr:
		local = a.AddrPort()
		return netip.AddrPortFrom(local.Addr().Unmap(), local.Port()), conn.peer, ""
	case *net.UnixAddr:
		path = a.Name
	}
	return local, conn.peer, path
}

// onUnix is what clients of Unix sockets are called: their ends of it have no names.
const onUnix = "unix"

// A named is what clientName has found, of whom the PROXY protocol has told by then.
type named struct {
	client net.Addr
	name   string
}

// clientName names the client for people.
func (conn *Conn) clientName() string {
	if n := conn.named.Load(); n != nil && n.client == conn.client {
		return n.name
	}
	n := &named{conn.client, onUnix}
	if tcp, ok := conn.client.(*net.TCPAddr); ok {
		n.name = tcp.String()
	} else if conn.client == nil && conn.tcp {
		n.name = conn.peer.String()
	}
	conn.named.Store(n)
	return n.name
}
