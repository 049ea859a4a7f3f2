package daemon

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// CloseWrite shuts down the writing side.
func (conn *Conn) CloseWrite() error {
	conn.shutWrite.Store(true)
	if j := conn.running(); j != nil {
		// Before it takes effect: what follows is no client's doing, and a Unix socket does not show who has ended what.
		conn.c.redraw(j)
	}
	if cw, ok := conn.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("close write %T: %w", conn.Conn, unix.EOPNOTSUPP)
}

// Write writes to the client.
func (conn *Conn) Write(p []byte) (int, error) {
	n, err := conn.Conn.Write(p)
	conn.sent.Add(int64(n))
	return n, err
}

// ReadFrom copies from r to the connection, inside the kernel where it can.
func (conn *Conn) ReadFrom(r io.Reader) (int64, error) {
	rf, ok := conn.Conn.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{conn}, r)
	}
	n, err := rf.ReadFrom(r)
	conn.sent.Add(n)
	return n, err
}

// SyscallConn gives access to the descriptor.
func (conn *Conn) SyscallConn() (syscall.RawConn, error) {
	return conn.Conn.(syscall.Conn).SyscallConn()
}

// control calls f with the descriptor, unless it is closed.
func (conn *Conn) control(f func(fd int) error) error {
	rc, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

// RemoteAddr returns the client's address, also when the client has reset the connection before it was accepted.
func (conn *Conn) RemoteAddr() net.Addr {
	if conn.tcp {
		return net.TCPAddrFromAddrPort(conn.peer)
	}
	return conn.Conn.RemoteAddr()
}

// endpoints returns both addresses of a TCP connection, and the path of a Unix one.
func (conn *Conn) endpoints() (local, foreign netip.AddrPort, path string) {
	switch a := conn.LocalAddr().(type) {
	case *net.TCPAddr:
		local = a.AddrPort()
		return netip.AddrPortFrom(local.Addr().Unmap(), local.Port()), conn.peer, ""
	case *net.UnixAddr:
		path = a.Name
	}
	return local, conn.peer, path
}

func (conn *Conn) clientName() string {
	if conn.tcp {
		return conn.peer.String()
	}
	return "unix"
}
