package netmon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// parser turns the text of /proc/net/tcp and /proc/net/tcp6 into rows.
//
// It is strict: a row it cannot read is an error and never skipped, because to a
// [Monitor] a row that is missing means a client that was cut off.
type parser struct {
	dst    []Conn
	states States   // zero: all
	ports  *portSet // nil: all
	begun  bool     // the first line has been seen
}

// feed parses the whole lines in text and returns how many bytes they are; the
// caller gives the rest again, with more after it.
func (p *parser) feed(text []byte) (int, error) {
	used := 0
	for {
		n := bytes.IndexByte(text[used:], '\n')
		if n < 0 {
			return used, nil
		}
		line := text[used : used+n]
		used += n + 1
		if !p.begun {
			p.begun = true
			if bytes.HasPrefix(line, []byte("  sl ")) {
				continue
			}
		}
		if !p.row(line) {
			return used, fmt.Errorf("not a row of the TCP table: %.200q", line)
		}
	}
}

// row parses one line and keeps it if it is wanted. It reports whether the line
// could be understood as far as was needed to decide that.
//
// The columns, as printed by get_tcp4_sock (net/ipv4/tcp_ipv4.c) and get_tcp6_sock
// (net/ipv6/tcp_ipv6.c). An address is 8 hexadecimal digits for IPv4, 32 for
// IPv6. The number of the row is padded to four places but may be longer, and
// everything behind the state is found by counting fields:
//
//	sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
//	 0: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1573 1 …
func (p *parser) row(line []byte) bool {
	i := 0
	for i < len(line) && (line[i] == ' ' || '0' <= line[i] && line[i] <= '9') {
		i++
	}
	if i+2 > len(line) || line[i] != ':' || line[i+1] != ' ' {
		return false
	}
	rest := line[i+2:]

	width := 8
	if len(rest) > 8 && rest[8] != ':' {
		width = 32
	}
	// Two addresses with port and blank, two digits of state, and a blank.
	remote := width + 6
	state := 2 * remote
	if len(rest) < state+3 || rest[width] != ':' || rest[remote-1] != ' ' ||
		rest[remote+width] != ':' || rest[state-1] != ' ' || rest[state+2] != ' ' {
		return false
	}

	// What is not wanted must go before the costly columns are looked at.
	st, ok := hex(rest[state : state+2])
	if !ok {
		return false
	}
	if p.states != 0 && !p.states.Has(State(st)) {
		return true
	}
	lport, ok := hex(rest[width+1 : width+5])
	if !ok {
		return false
	}
	if p.ports != nil && !p.ports.has(uint16(lport)) {
		return true
	}
	inode, ok := inodeColumn(rest[state+3:])
	if !ok {
		return false
	}
	if inode == 0 && !(State(st) == TimeWait && p.states.Has(TimeWait)) {
		return true
	}

	rport, ok := hex(rest[remote+width+1 : remote+width+5])
	if !ok {
		return false
	}
	laddr, ok := addr(rest[:width])
	if !ok {
		return false
	}
	raddr, ok := addr(rest[remote : remote+width])
	if !ok {
		return false
	}
	p.dst = append(p.dst, Conn{
		Local:  netip.AddrPortFrom(laddr, uint16(lport)),
		Remote: netip.AddrPortFrom(raddr, uint16(rport)),
		Inode:  inode,
		State:  State(st),
	})
	return true
}

// inodeColumn returns the inode out of what follows the state: five fields
// (queues, timer, retransmits, uid, timeout), then the inode. Something must follow
// the inode, or else a line that was cut short would give a wrong one.
func inodeColumn(b []byte) (inode uint64, ok bool) {
	i := 0
	for range 5 {
		for i < len(b) && b[i] == ' ' {
			i++
		}
		for i < len(b) && b[i] != ' ' {
			i++
		}
	}
	for i < len(b) && b[i] == ' ' {
		i++
	}
	digits := 0
	for digits < 20 && i+digits < len(b) && '0' <= b[i+digits] && b[i+digits] <= '9' {
		d := uint64(b[i+digits] - '0')
		if inode > (1<<64-1-d)/10 {
			return 0, false
		}
		inode = inode*10 + d
		digits++
	}
	i += digits
	return inode, digits > 0 && i < len(b) && b[i] == ' '
}

// addr parses an address: one word of 8 digits, or four. The kernel prints each word,
// which is in network order in memory, as if it were a number of this machine.
func addr(b []byte) (netip.Addr, bool) {
	var a [16]byte
	n := 0
	for ; len(b) >= 8; b = b[8:] {
		w, ok := hex(b[:8])
		if !ok {
			return netip.Addr{}, false
		}
		binary.NativeEndian.PutUint32(a[n:], w)
		n += 4
	}
	if n == 4 {
		return netip.AddrFrom4([4]byte(a[:4])), true
	}
	return netip.AddrFrom16(a).Unmap(), true
}

// hex parses up to eight hexadecimal digits, all of b.
func hex(b []byte) (v uint32, ok bool) {
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint32(c)
	}
	return v, true
}

// portSet holds ports as bits: a test costs the same for one port and for a hundred.
type portSet [1 << 16 / 64]uint64

func (s *portSet) has(p uint16) bool { return s[p/64]&(1<<(p%64)) != 0 }
func (s *portSet) add(p uint16)      { s[p/64] |= 1 << (p % 64) }
func (s *portSet) drop(p uint16)     { s[p/64] &^= 1 << (p % 64) }
