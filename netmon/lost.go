package netmon

import (
	"fmt"
	"net/netip"
)

// How says in what way a client left. Zero is no way at all.
type How uint8

// The ways to leave. Of a TCP connection a [Monitor] reports Closed and Reset, as the
// others cannot be told from these two in the kernel's table; of a Unix socket it
// reports Closed and HalfClosed. TimedOut is for sources that know more.
const (
	// Closed: the client sent FIN and will send no more. It closed the connection,
	// or, which looks the same, shut down its sending half.
	Closed How = iota + 1

	// Reset: the connection is gone while our process still holds the socket. The
	// client sent RST, or the kernel gave the connection up.
	Reset

	// HalfClosed: the client sent FIN and is known to wait for the answer still.
	HalfClosed

	// TimedOut: the kernel gave the connection up, as nothing was heard from the
	// client (keep-alive, TCP_USER_TIMEOUT).
	TimedOut
)

// String returns "closed", "reset", "half-closed" or "timed out".
func (h How) String() string {
	switch h {
	case Closed:
		return "closed"
	case Reset:
		return "reset"
	case HalfClosed:
		return "half-closed"
	case TimedOut:
		return "timed out"
	}
	return fmt.Sprintf("how(%d)", uint8(h))
}

// Lost is a client that has left while a process of ours still serves it.
type Lost struct {
	// PID is the process that holds the connection. If several of those asked about
	// hold it, it is the one that stands first among them.
	PID int

	// Proto is "tcp" or "unix".
	Proto string

	// Local is our end of a TCP connection, Foreign the client's.
	Local, Foreign netip.AddrPort

	// Path is the name of the listener that a Unix connection came to, as it was given
	// to [Monitor.WatchUnix]. Its client has no name in most cases.
	Path string

	// Inode is the socket's, see [Conn]. It tells this connection from a later one
	// with the same addresses.
	Inode uint64

	// How the client left.
	How How
}
