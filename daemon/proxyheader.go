package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
)

// headerWait is how long a proxy may take to say for whom it comes. It does so in its first packet. A test makes it shorter.
var headerWait = 5 * time.Second

const (
	// Of version 1 a header is a line; of version 2 a head that tells its length, and what is longer than maxHeader no proxy sends.
	maxHeaderLine = 107
	headerHead    = 16
	maxHeader     = headerHead + 4096
)

var (
	errNoHeader    = errors.New("it does not begin with a header of the PROXY protocol")
	errOtherHeader = errors.New("its header is of another version of the PROXY protocol than the listener wants")
	errLongHeader  = errors.New("the header of its PROXY protocol is too long")
	errHalfHeader  = errors.New("it has ended within the header of its PROXY protocol")
	errDatagrams   = errors.New("the header of its PROXY protocol is that of a datagram")
)

// headerLength tells how long the header is that b begins with; 0: not enough of it has come to see that. version is what the
// listener wants: v1, v2 or any.
func headerLength(b []byte, version string) (int, error) {
	begins := func(signature []byte) bool {
		n := min(len(b), len(signature))
		return bytes.Equal(b[:n], signature[:n])
	}
	one, two := begins(proxyproto.SIGV1), begins(proxyproto.SIGV2)
	switch {
	case len(b) == 0:
		return 0, nil
	case one && version == "v2", two && version == "v1":
		return 0, errOtherHeader
	case one:
		if end := bytes.IndexByte(b[:min(len(b), maxHeaderLine)], '\n'); end >= 0 {
			return end + 1, nil
		}
		if len(b) >= maxHeaderLine {
			return 0, errLongHeader
		}
		return 0, nil
	case two:
		if len(b) < headerHead {
			return 0, nil
		}
		n := headerHead + int(binary.BigEndian.Uint16(b[headerHead-2:]))
		if n > maxHeader {
			return 0, errLongHeader
		}
		return n, nil
	}
	return 0, errNoHeader
}

// readHeader reads what the proxy says, and not one byte more: what follows is in the socket, for whoever reads there. The error is
// io.EOF of a connection on which nothing has come before its end.
func (conn *Conn) readHeader() (*proxyproto.Header, error) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	conn.Conn.SetReadDeadline(time.Now().Add(headerWait))
	defer conn.Conn.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(conn.Context(), func() { conn.Conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 256)
	size, failed := 0, error(nil)
	err = rc.Read(func(fd uintptr) (done bool) {
		buf, size, failed = peekHeader(int(fd), buf, conn.from.spec.Proxy)
		return failed != unix.EAGAIN
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && conn.Context().Err() == nil:
		return nil, fmt.Errorf("no header of the PROXY protocol has come within %v", headerWait)
	case err != nil:
		return nil, err
	case failed != nil:
		return nil, failed
	}
	if _, err := io.ReadFull(conn.Conn, buf[:size]); err != nil {
		return nil, err
	}
	return parseHeader(buf[:size])
}

// peekHeader looks at what has come until a header is whole, and returns its length. The error is EAGAIN if it is not.
func peekHeader(fd int, buf []byte, version string) ([]byte, int, error) {
	for {
		ended := hangUps(fd) != 0 // first: nothing comes after it
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return buf, 0, err
		case err != nil:
			return buf, 0, os.NewSyscallError("recvfrom", err)
		case n == 0:
			return buf, 0, io.EOF
		}
		size, err := headerLength(buf[:n], version)
		switch {
		case err != nil:
			return buf, 0, err
		case size > 0 && size <= n:
			return buf, size, nil
		case size > len(buf):
			buf = make([]byte, size)
		case ended:
			return buf, 0, errHalfHeader
		default:
			return buf, 0, unix.EAGAIN
		}
	}
}

// parseHeader reads a header that is whole.
func parseHeader(b []byte) (*proxyproto.Header, error) {
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(b)))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the header of its PROXY protocol makes no sense: %w", err)
	case h.Command.IsLocal():
		return h, nil
	case h.TransportProtocol.IsDatagram():
		return nil, errDatagrams
	}
	return h, nil
}

// endsOf returns the addresses of client and server that a header tells; nil: it tells none, the proxy has come for itself.
func endsOf(h *proxyproto.Header) (client, server net.Addr) {
	if h.Command.IsLocal() {
		return nil, nil
	}
	plain := func(a net.Addr) net.Addr {
		if tcp, ok := a.(*net.TCPAddr); ok {
			ap := tcp.AddrPort()
			return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		}
		return a
	}
	return plain(h.SourceAddr), plain(h.DestinationAddr)
}
