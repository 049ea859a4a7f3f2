package netmon

import "golang.org/x/sys/unix"

// Diag reads the TCP connections of a network namespace by sock_diag(7): the kernel
// sends only rows of the ports and states that are wanted, IPv4 and IPv6 in one walk
// of its table, and in binary. It gives what [Table] gives, at a fraction of the cost
// where few of many sockets are wanted.
//
// The namespace is that of the thread on which the first question is put, or the first
// after an error. No privilege is needed. Reading allocates nothing once the slice that
// the caller passes in has grown to its size. One descriptor is open between two reads,
// until Close. A Diag is not safe for concurrent use.
type Diag struct {
	netlink netlink
	req     []byte
	ports   portSet // all clear between two snapshots
	rows    diagRows
	found   exactRows
}

// NewDiag returns a Diag. It opens nothing yet; whether the kernel answers is for
// [Diag.Probe] to say.
func NewDiag() *Diag { return &Diag{netlink: newNetlink()} }

// Name returns "inet_diag".
func (d *Diag) Name() string { return "inet_diag" }

// Close closes the socket. The Diag can be used again, and opens another one then.
func (d *Diag) Close() error {
	d.netlink.close()
	return nil
}

// Probe asks for nothing, in the way that Snapshot asks, and returns the error if the
// kernel refuses: netlink may be forbidden by seccomp, or inet_diag not be built or
// loaded.
func (d *Diag) Probe() error {
	d.rows = diagRows{}
	d.req = appendDump(d.req[:0], 0, []uint16{1, 2})
	return d.netlink.ask(d.req, getSock, true, &d.rows)
}

// Snapshot appends the rows that f wants to dst and returns the longer slice, in the
// kernel's order, which means nothing.
//
// The kernel lets its table change between one datagram of its answer and the next. A
// row may therefore come twice, and one that was there all the time may be left out;
// both are rare. An answer that the kernel itself calls interrupted, or that found no
// room (ENOBUFS), is asked for again, four times at most; then it is an error.
//
// LISTEN rows cost a walk of another table. They are asked for only if f.States names
// Listen, or is zero.
func (d *Diag) Snapshot(dst []Conn, f Filter) ([]Conn, error) {
	states := f.States & allStates
	if f.States == 0 {
		states = allStates
	}
	d.rows = diagRows{dst: dst, had: len(dst), states: f.States}
	if len(f.Ports) > 0 {
		d.rows.ports = &d.ports
		for _, p := range f.Ports {
			d.ports.add(p)
		}
	}
	d.req = appendDump(d.req[:0], states, f.Ports)
	err := d.netlink.ask(d.req, getSock, true, &d.rows)
	for _, p := range f.Ports {
		d.ports.drop(p)
	}
	rows := d.rows.dst
	d.rows = diagRows{}
	if err != nil {
		return dst, err
	}
	return rows, nil
}

// diagRows collects the rows of a dump.
type diagRows struct {
	dst    []Conn
	had    int
	states States   // zero: all
	ports  *portSet // nil: all
}

func (r *diagRows) begin() { r.dst = r.dst[:r.had] }

func (r *diagRows) refused(_ int, errno unix.Errno) error { return errno }

// row keeps a row if it is wanted. The ports are looked at again, as the kernel is not
// asked to filter by very many.
func (r *diagRows) row(_ int, body []byte) error {
	c, err := parseDiag(body)
	if err != nil {
		return err
	}
	switch {
	case r.states != 0 && !r.states.Has(c.State):
	case r.ports != nil && !r.ports.has(c.Local.Port()):
	case c.Inode == 0 && !(c.State == TimeWait && r.states.Has(TimeWait)):
	default:
		r.dst = append(r.dst, c)
	}
	return nil
}
