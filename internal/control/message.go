// Package control is the wire: the datagrams between a parent and its children, and the requests that operators send.
//
// The parent may be root and a child may be in a stranger's hands, so everything a child can send has a fixed head, a
// limited text and values that are checked here, before anybody acts on them.
package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// A Kind says what a Message means.
type Kind uint8

// What a child says to its parent.
const (
	Ready    Kind = 'R' // the child can take work
	Failed   Kind = 'E' // the child cannot start: Text
	Gone     Kind = 'G' // the client of job Serial has left: How, Local, Foreign, Proxy, Text is the Unix path
	Settled  Kind = 'S' // job Serial, named by a Revoke, is over; Leaving if the child ends because of it
	Overtime Kind = 'T' // job Serial has run for longer than it may
	Spent    Kind = 'X' // the child has served its time and wants to be replaced: Text says why
	Alive    Kind = 'A' // answers a Ping
	Proven   Kind = 'J' // the child has done its first job
	Paused   Kind = 'W' // the child accepts nothing for a while; without Leaving: it does again
	Refused  Kind = 'I' // somebody may not connect: Text is who and, behind a NUL byte, by which rule; Serial is how many others were not told of
	Parting  Kind = 'P' // answers a Leave: Leaving if the child does so, else it has just got work
)

// What a parent says to its child.
const (
	Begin  Kind = 'B' // the child's limits are set: it may call the user's code; Text is the path of its cgroup, Serial the version of what it may say in the pipe of the access log, 0: lines alone; How is the way in which children take turns in accepting, Inode a number for that
	Ping   Kind = 'N' // say Alive
	Drain  Kind = 'D' // take no more work, finish what is in hand, exit; Text says why
	Leave  Kind = 'L' // the same, but only if no job runs; the child answers
	Quit   Kind = 'Q' // the same, and cancel the jobs that run: the daemon stops; they have the time Within
	Evict  Kind = 'O' // the same to a child that drains; Text says why
	Yield  Kind = 'Y' // stand behind in the line of those who wait for a connection; Leaving: not any more
	Queues Kind = 'U' // accept from these queues: Text is their numbers, counted from 0, with blanks between them
	Revoke Kind = 'V' // the client of job Serial has left: cancel it; Kill if the child is to end as well
	Clear  Kind = 'C' // the matter of job Serial is settled
	Find   Kind = 'F' // something has ended on the connection Inode: say Gone if a job runs on it and its client has left
)

// A Message is one datagram. Which fields mean something depends on its Kind.
type Message struct {
	Kind    Kind
	How     uint8 // a netmon.How, if it is about a client
	Kill    bool
	Leaving bool
	Within  time.Duration // how long something may take; in milliseconds, up to 49 days
	Serial  uint64
	Inode   uint64
	Local   netip.AddrPort
	Foreign netip.AddrPort
	Proxy   netip.AddrPort // who has connected for Foreign; not valid: himself
	Text    string
}

const (
	headLen = 64
	addrLen = 20
	maxText = 4096
	// MaxMessage is the size of the buffer that takes any Message.
	MaxMessage = headLen + addrLen + maxText

	flagKill    = 1
	flagLeaving = 2
	flagProxy   = 4 // the address of Proxy follows the head
)

var (
	// ErrMessage is returned for bytes that are no Message.
	ErrMessage = errors.New("malformed control message")
	// ErrUnknown is returned for a message that a later version of this package may have sent. Parent and child may come
	// from different builds, so it is to be left alone.
	ErrUnknown = errors.New("control message of another version")
)

// The head: kind, how, flags, one byte zero, milliseconds (4), serial, inode, local address, foreign address; an address is 16 bytes,
// port (2), family (1: 0 none, 4, 6), one byte zero. With flagProxy another address follows, and then the text.

// Append appends the encoded message to b. A text over 4,096 bytes is cut.
func (m Message) Append(b []byte) []byte {
	var h [headLen]byte
	h[0], h[1] = byte(m.Kind), m.How
	if m.Kill {
		h[2] |= flagKill
	}
	if m.Leaving {
		h[2] |= flagLeaving
	}
	binary.LittleEndian.PutUint32(h[4:], uint32(min(max(m.Within.Milliseconds(), 0), math.MaxUint32)))
	binary.LittleEndian.PutUint64(h[8:], m.Serial)
	binary.LittleEndian.PutUint64(h[16:], m.Inode)
	putAddr(h[24:44], m.Local)
	putAddr(h[44:64], m.Foreign)
	if !m.Proxy.IsValid() {
		return append(append(b, h[:]...), cut(m.Text)...)
	}
	h[2] |= flagProxy
	var proxy [addrLen]byte
	putAddr(proxy[:], m.Proxy)
	return append(append(append(b, h[:]...), proxy[:]...), cut(m.Text)...)
}

func cut(text string) string { return text[:min(len(text), maxText)] }

// Parse decodes one datagram. The error wraps ErrMessage or ErrUnknown.
func Parse(b []byte) (Message, error) {
	if len(b) < headLen || len(b) > MaxMessage {
		return Message{}, fmt.Errorf("%w: %d bytes", ErrMessage, len(b))
	}
	m := Message{
		Kind: Kind(b[0]), How: b[1],
		Kill: b[2]&flagKill != 0, Leaving: b[2]&flagLeaving != 0,
		Within: time.Duration(binary.LittleEndian.Uint32(b[4:])) * time.Millisecond,
		Serial: binary.LittleEndian.Uint64(b[8:]),
		Inode:  binary.LittleEndian.Uint64(b[16:]),
	}
	switch m.Kind {
	case Ready, Failed, Gone, Settled, Overtime, Spent, Proven, Alive, Paused, Parting, Refused, Begin, Ping, Drain, Leave, Quit, Evict, Yield, Queues, Revoke, Clear, Find:
	default:
		return Message{}, fmt.Errorf("%w: kind %#x", ErrUnknown, b[0])
	}
	if b[2]&^(flagKill|flagLeaving|flagProxy) != 0 || b[3] != 0 {
		return Message{}, fmt.Errorf("%w: flags %#x", ErrUnknown, b[2:4])
	}
	ok1, ok2, ok3 := false, false, true
	m.Local, ok1 = getAddr(b[24:44])
	m.Foreign, ok2 = getAddr(b[44:64])
	rest := b[headLen:]
	if b[2]&flagProxy != 0 {
		if len(rest) < addrLen {
			return Message{}, fmt.Errorf("%w: %d bytes", ErrMessage, len(b))
		}
		m.Proxy, ok3 = getAddr(rest[:addrLen])
		ok3 = ok3 && m.Proxy.IsValid()
		rest = rest[addrLen:]
	}
	if !ok1 || !ok2 || !ok3 {
		return Message{}, fmt.Errorf("%w: bad address", ErrMessage)
	}
	if len(rest) > maxText {
		return Message{}, fmt.Errorf("%w: %d bytes", ErrMessage, len(b))
	}
	m.Text = string(rest)
	return m, nil
}

func putAddr(b []byte, ap netip.AddrPort) {
	a := ap.Addr().WithZone("")
	switch {
	case a.Is4():
		a4 := a.As4()
		copy(b, a4[:])
		b[18] = 4
	case a.Is6():
		a16 := a.As16()
		copy(b, a16[:])
		b[18] = 6
	default:
		return
	}
	binary.LittleEndian.PutUint16(b[16:], ap.Port())
}

func getAddr(b []byte) (netip.AddrPort, bool) {
	port := binary.LittleEndian.Uint16(b[16:])
	if b[19] != 0 {
		return netip.AddrPort{}, false
	}
	switch b[18] {
	case 0:
		return netip.AddrPort{}, port == 0 && [16]byte(b) == [16]byte{}
	case 4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), port), [12]byte(b[4:]) == [12]byte{}
	case 6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), port), true
	}
	return netip.AddrPort{}, false
}
