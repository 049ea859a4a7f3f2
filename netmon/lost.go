package netmon

import (
	"fmt"
	"net/netip"
)

// How says in what way a client left. Zero is no way at all.
type How uint8

// The ways to leave. A [Monitor] reports Closed and Reset; the others cannot be
// told from these two in the kernel's table, and are for sources that know more.
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

	// Local is our end of the connection, Foreign the client's.
	Local, Foreign netip.AddrPort

	// Inode is the socket's, see [Conn]. It tells this connection from a later one
	// with the same addresses.
	Inode uint64

	// How the client left.
	How How
}
