package netmon

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxBatch is how many sockets are asked for in one message to the kernel. The answers
// must all find room in the receive buffer.
const maxBatch = 32

// Lookup asks for single sockets, that an earlier Snapshot of a Diag has shown, and
// appends to dst the state in which each of them is now: zero for one that is gone from
// the table. It costs some 4 µs for one socket, and 2 µs for each of many, however many
// others there are.
//
// A socket is found by its cookie, which is never used again, and so never taken for a
// listener or for a later connection with the same addresses. A row without a cookie,
// as [Table] gives them, is an error. On an error dst is returned as it was.
func (d *Diag) Lookup(dst []State, conns []Conn) ([]State, error) {
	had := len(dst)
	for len(conns) > 0 {
		batch := conns[:min(len(conns), maxBatch)]
		conns = conns[len(batch):]
		d.req = d.req[:0]
		for i := range batch {
			c := &batch[i]
			if c.Cookie == 0 {
				return dst[:had], fmt.Errorf("netmon: cannot look up %v, %v: the row has no cookie; only those of a Diag do", c.Local, c.Remote)
			}
			d.req = appendExact(d.req, c.Local, c.Remote, c.Device, c.Cookie)
		}
		if err := d.exact(len(batch)); err != nil {
			return dst[:had], err
		}
		for i := range batch {
			c, got := &batch[i], &d.found.rows[i]
			state := got.State
			if !got.same(c.Local, c.Remote) || got.Cookie != c.Cookie || state == Listen {
				state = 0
			}
			dst = append(dst, state)
		}
	}
	return dst, nil
}

// exact puts the n questions in d.req; the answers are in d.found.rows, the zero Conn
// for what was not found.
func (d *Diag) exact(n int) error {
	d.found.n = n
	return d.netlink.ask(d.req, byFam, false, &d.found)
}

func (c *Conn) same(local, remote netip.AddrPort) bool { return c.Local == local && c.Remote == remote }

// Confirm says whether a client that was reported as Closed has really closed, or still
// waits for the answer. That can be seen if the client is on this host and in this
// network namespace, as its own end of the connection then is a row, too: it has an
// inode as long as the client holds it.
//
// It returns Closed, or HalfClosed, or zero if it cannot be known, which is so for all
// clients elsewhere. What was reported with another How, or of a Unix socket, needs no
// confirmation, and its How is returned. A HalfClosed client may close later; ask again.
//
// The client's end is found by its addresses. That it is not there means Closed only if
// its address is a loopback one: others may be another host's.
func (d *Diag) Confirm(l Lost) (How, error) {
	if l.How != Closed || l.Path != "" {
		return l.How, nil
	}
	d.req = appendExact(d.req[:0], l.Foreign, l.Local, 0, anyCookie)
	if err := d.exact(1); err != nil {
		return 0, err
	}
	end := &d.found.rows[0]
	switch {
	case !end.same(l.Foreign, l.Local): // nothing, or a listener that has the port now
		if l.Foreign.Addr().IsLoopback() {
			return Closed, nil
		}
		return 0, nil
	case end.Inode != 0 && (end.State == FinWait1 || end.State == FinWait2):
		return HalfClosed, nil
	}
	return Closed, nil
}

// exactRows collects the answers to single questions.
type exactRows struct {
	rows [maxBatch]Conn
	n    int
}

func (r *exactRows) begin() { clear(r.rows[:r.n]) }

func (r *exactRows) refused(_ int, errno unix.Errno) error {
	// ESTALE: another cookie. Kernels differ in which of the two they say.
	if errno == unix.ENOENT || errno == unix.ESTALE {
		return nil
	}
	return errno
}

func (r *exactRows) row(i int, body []byte) error {
	c, err := parseDiag(body)
	if err == nil && i < r.n {
		r.rows[i] = c
	}
	return err
}
