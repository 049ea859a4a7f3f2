package netmon

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// gateTime is how long a Gate stays shut at most.
const gateTime = 5 * time.Second

// Gate says whether a look at the TCP table could show anything new, for some µs
// instead of what a look costs. It reads the counters in /proc/net/snmp: no client can
// connect, close or reset without a segment that is received (InSegs), and what the
// kernel gives up by itself is counted as well (EstabResets, CurrEstab). Where other
// traffic never rests, the Gate is never shut.
//
// The number of established connections alone would not do. Since Linux 6.10 it
// includes CLOSE_WAIT, so that it stays the same when a client from another host closes.
//
// What happens without a segment is not noticed at once, but after 5 s at most: that a
// process accepts a connection whose client has left before, or hands one on to another
// process. Unix sockets are not counted at all; do not ask a Gate where they are
// watched. A Gate is not safe for concurrent use.
type Gate struct {
	name       []byte // ending with NUL
	buf        []byte
	last, next []byte // counters, as text
	looked     time.Time
	again      bool
}

// NewGate returns a Gate for the network namespace of fs. It reads nothing yet.
func NewGate(fs FS) *Gate {
	return &Gate{name: []byte(fs.path("net/snmp") + "\x00"), buf: make([]byte, 8192)}
}

// Due reports whether it is time for a look, and takes it for granted that one is taken
// then. It is so at the first call; when the counters have moved since the last call,
// and once more after that, because a segment is counted a moment before it takes
// effect; and 5 s after the last look. If the counters cannot be read, that is an
// error, and a look is due.
func (g *Gate) Due(now time.Time) (bool, error) {
	if err := g.read(); err != nil {
		g.last = g.last[:0] // equal to nothing
		g.looked = now
		return true, fmt.Errorf("netmon: %s: %w", g.name[:len(g.name)-1], err)
	}
	moved := !bytes.Equal(g.last, g.next)
	g.last, g.next = g.next, g.last
	if !moved && !g.again && now.Sub(g.looked) < gateTime {
		return false, nil
	}
	g.again = moved
	g.looked = now
	return true, nil
}

// read leaves the counters in g.next.
func (g *Gate) read() error {
	fd, err := open(g.name, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	size := 0
	for size < len(g.buf) {
		n, err := read(fd, g.buf[size:])
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		size += n
	}
	g.next, err = appendCounters(g.next[:0], g.buf[:size])
	return err
}

var gateCounters = [...]string{"ActiveOpens", "PassiveOpens", "EstabResets", "CurrEstab", "InSegs"}

// appendCounters appends the counters that matter out of the text of /proc/net/snmp:
// two lines that begin with "Tcp:", names and values.
func appendCounters(dst, text []byte) ([]byte, error) {
	names, rest, ok := tcpLine(text)
	if !ok {
		return dst, errors.New("no counters of TCP")
	}
	values, _, ok := tcpLine(rest)
	if !ok {
		return dst, errors.New("the counters of TCP have names, but no values")
	}
	found := 0
	for len(names) > 0 && len(values) > 0 {
		var name, value []byte
		name, names, _ = bytes.Cut(names, []byte(" "))
		value, values, _ = bytes.Cut(values, []byte(" "))
		for _, want := range gateCounters {
			if string(name) == want && len(value) > 0 {
				dst = append(append(dst, value...), ' ')
				found++
			}
		}
	}
	if found != len(gateCounters) {
		return dst, fmt.Errorf("%d counters of %q", found, gateCounters)
	}
	return dst, nil
}

// tcpLine returns what follows "Tcp: " on the first whole line that begins so, and the
// text after it.
func tcpLine(text []byte) (line, rest []byte, ok bool) {
	for {
		if line, rest, ok = bytes.Cut(text, []byte("\n")); !ok {
			return nil, nil, false
		}
		if line, ok = bytes.CutPrefix(line, []byte("Tcp: ")); ok {
			return line, rest, true
		}
		text = rest
	}
}
