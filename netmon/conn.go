package netmon

import (
	"fmt"
	"net/netip"
)

// State is the state of a TCP socket, numbered as in /proc/net/tcp.
// The numbers are those of the kernel's include/net/tcp_states.h. Zero is no state.
type State uint8

// The states, in the kernel's order.
const (
	Established State = iota + 1
	SynSent
	SynRecv
	FinWait1
	FinWait2
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	Closing
)

// String returns the name used by the kernel and by ss(8), such as "CLOSE_WAIT".
func (s State) String() string {
	names := [...]string{
		Established: "ESTABLISHED", SynSent: "SYN_SENT", SynRecv: "SYN_RECV",
		FinWait1: "FIN_WAIT1", FinWait2: "FIN_WAIT2", TimeWait: "TIME_WAIT",
		Close: "CLOSE", CloseWait: "CLOSE_WAIT", LastAck: "LAST_ACK",
		Listen: "LISTEN", Closing: "CLOSING",
	}
	if s == 0 || int(s) >= len(names) {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return names[s]
}

// Mask returns the set that holds only s.
func (s State) Mask() States { return 1 << s }

// States is a set of states: bit n stands for State n.
// Sets are joined with |, as in Established.Mask() | CloseWait.Mask().
type States uint16

// Has reports whether s is in the set.
func (set States) Has(s State) bool { return set&s.Mask() != 0 }

// Conn is one row of the kernel's table: one end of a connection, or a listener.
type Conn struct {
	// Local is this end, Remote the other. IPv4 addresses that were mapped into
	// IPv6 are plain IPv4 addresses here. A listener's Remote is the zero address
	// and port 0. The kernel's table has no zones.
	Local, Remote netip.AddrPort

	// Inode names the socket for as long as any process holds it, as in the link
	// "socket:[INODE]" below /proc/PID/fd. Zero only for TIME_WAIT.
	Inode uint64

	// Cookie names the socket, too, and is never used again while the system is up.
	// Only a [Diag] knows it; zero in the rows of a [Table].
	Cookie uint64

	// Device is the interface that the socket is bound to: by SO_BINDTODEVICE, or
	// because its addresses are link-local. Zero for none, and in the rows of a Table.
	Device uint32

	// State is the socket's state when the row was printed.
	State State
}

// Filter says which rows are wanted. The zero Filter wants every row that has an
// inode.
type Filter struct {
	// Ports are the local ports wanted; empty means all.
	Ports []uint16

	// States are the states wanted; zero means all.
	//
	// A row without an inode (not accepted yet, or closed by its process) is never
	// given, with one exception: TIME_WAIT rows never have one, and are given, with
	// Inode 0, when States names TimeWait.
	States States
}

// Snapshotter is a source of rows: [Auto], [Diag], [Table], or another way to ask the kernel.
type Snapshotter interface {
	// Snapshot appends the rows that f wants to dst and returns the longer slice.
	//
	// A row may be given twice, or be left out, when the kernel's table changes
	// while it is read. On an error dst is returned as it was. The result must not
	// share memory with later results, nor may f.Ports be kept.
	Snapshot(dst []Conn, f Filter) ([]Conn, error)
}
