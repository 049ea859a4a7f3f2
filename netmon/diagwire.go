package netmon

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The wire format is that of include/uapi/linux/inet_diag.h. Numbers are in the order
// of this machine, ports and addresses in that of the network.
const (
	getSock = 18 // TCPDIAG_GETSOCK: one dump for both families
	byFam   = unix.SOCK_DIAG_BY_FAMILY

	idSize    = 48 // struct inet_diag_sockid
	oldSize   = 60 // struct inet_diag_req
	exactSize = 56 // struct inet_diag_req_v2
	rowSize   = 72 // struct inet_diag_msg

	// allStates are those that /proc/net/tcp shows. What is only bound is not among
	// them: to ask for it makes the kernel walk one more table.
	allStates = States(1<<(Closing+1) - 1<<Established)

	// maxPorts is how many ports the kernel is asked to filter by. It tries them one
	// by one; with more it is cheaper to have the rows sent.
	maxPorts = 64

	// The kernel's little language: each operation says where to go on if it holds,
	// and where if not.
	opJump    = 1 // INET_DIAG_BC_JMP
	opAtLeast = 2 // INET_DIAG_BC_S_GE: the local port is at least
	opAtMost  = 3 // INET_DIAG_BC_S_LE: the local port is at most
)

// appendDump appends the question for all rows in the given states, with one of the
// given local ports.
func appendDump(b []byte, states States, ports []uint16) []byte {
	start := len(b)
	b = appendHeader(b, oldSize, getSock, unix.NLM_F_DUMP)
	b = append(b, 0, 0, 0, 0) // family and lengths, which a dump ignores; no extensions
	var port uint16
	if len(ports) == 1 {
		port = ports[0]
	}
	b = binary.BigEndian.AppendUint16(b, port) // zero: any
	b = append(b, make([]byte, idSize-2)...)
	b = binary.NativeEndian.AppendUint32(b, uint32(states))
	b = append(b, 0, 0, 0, 0)
	if len(ports) > 1 && len(ports) <= maxPorts {
		b = appendPorts(b, ports)
	}
	binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// appendPorts appends the attribute that has the kernel compare the local port with each
// of ports: at least p and at most p, or else the next one. To go on exactly at the end
// means yes, four bytes behind it means no (net/ipv4/inet_diag.c, inet_diag_bc_run).
func appendPorts(b []byte, ports []uint16) []byte {
	const compare, jump = 8, 4
	const each = 2*compare + jump
	size := len(ports)*each - jump
	b = binary.NativeEndian.AppendUint16(b, uint16(4+size))
	b = binary.NativeEndian.AppendUint16(b, 1) // INET_DIAG_REQ_BYTECODE
	op := func(code, yes byte, no int, port uint16) {
		b = append(b, code, yes)
		b = binary.NativeEndian.AppendUint16(b, uint16(no))
		if code != opJump {
			b = append(b, 0, 0)
			b = binary.NativeEndian.AppendUint16(b, port)
		}
	}
	for i, p := range ports {
		op(opAtLeast, compare, each, p)
		op(opAtMost, compare, compare+jump, p)
		if i < len(ports)-1 {
			op(opJump, jump, size-i*each-2*compare, 0)
		}
	}
	return b
}

// anyCookie is the cookie of a question about whatever socket has these addresses
// (INET_DIAG_NOCOOKIE).
const anyCookie = ^uint64(0)

// appendExact appends the question about the one socket that has these addresses and
// this cookie.
func appendExact(b []byte, local, remote netip.AddrPort, device uint32, cookie uint64) []byte {
	b = appendHeader(b, exactSize, byFam, 0)
	family := byte(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(allStates))
	b = binary.BigEndian.AppendUint16(b, local.Port())
	b = binary.BigEndian.AppendUint16(b, remote.Port())
	b = appendAddr(b, local.Addr())
	b = appendAddr(b, remote.Addr())
	b = binary.NativeEndian.AppendUint32(b, device)
	b = binary.NativeEndian.AppendUint32(b, uint32(cookie))
	return binary.NativeEndian.AppendUint32(b, uint32(cookie>>32))
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		b = append(b, four[:]...)
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	all := a.As16()
	return append(b, all[:]...)
}

// parseDiag reads one row: family, state, timer, retransmits, a byte each; the sockid;
// expiry, the two queues, uid and inode, four bytes each. Attributes may follow. The
// sockid is both ports, both addresses in 16 bytes each, the interface that the socket
// is bound to, and the cookie's halves, the lower first.
func parseDiag(b []byte) (Conn, error) {
	if len(b) < rowSize {
		return Conn{}, fmt.Errorf("a row of %d bytes", len(b))
	}
	id := b[4 : 4+idSize]
	local, remote := id[4:20], id[20:36]
	var l, r netip.Addr
	switch b[0] {
	case unix.AF_INET:
		l, r = netip.AddrFrom4([4]byte(local[:4])), netip.AddrFrom4([4]byte(remote[:4]))
	case unix.AF_INET6:
		l, r = netip.AddrFrom16([16]byte(local)).Unmap(), netip.AddrFrom16([16]byte(remote)).Unmap()
	default:
		return Conn{}, fmt.Errorf("a row of address family %d", b[0])
	}
	return Conn{
		Local:  netip.AddrPortFrom(l, binary.BigEndian.Uint16(id)),
		Remote: netip.AddrPortFrom(r, binary.BigEndian.Uint16(id[2:])),
		Inode:  uint64(binary.NativeEndian.Uint32(b[68:])),
		Cookie: uint64(binary.NativeEndian.Uint32(id[44:]))<<32 | uint64(binary.NativeEndian.Uint32(id[40:])),
		Device: binary.NativeEndian.Uint32(id[36:]),
		State:  State(b[1]),
	}, nil
}
