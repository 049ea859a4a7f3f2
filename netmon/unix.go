package netmon

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// UnixConn is our end of a connection that came to a listening Unix socket.
type UnixConn struct {
	// Path is the name of the listener, as it was asked for.
	Path string

	// Inode names the socket for as long as any process holds it, as in the link
	// "socket:[INODE]" below /proc/PID/fd. Cookie names it, too, and is never used
	// again while the system is up.
	Inode, Cookie uint64

	// Peer is the inode of the client's socket, and zero when the client has closed it.
	Peer uint64

	// Shutdown says which directions have ended: ShutRead, ShutWrite, or both.
	Shutdown Shutdown
}

// Shutdown is a set of the directions of a connection that have ended. It makes no
// difference for it who ended them: our reading ends when the client shuts down its
// writing, too, and both end when the client closes.
type Shutdown uint8

// The directions, numbered as in the kernel (include/net/sock.h).
const (
	ShutRead  Shutdown = 1 << iota // we will read nothing more
	ShutWrite                      // we can write nothing more
)

// UnixSnapshotter is a source of connections of Unix sockets: [Unix].
type UnixSnapshotter interface {
	// Snapshot appends to dst the connections that were accepted from listeners with
	// the given names, and returns the longer slice. A name is a path, in the words it
	// was bound with, or "@" and an abstract name.
	//
	// A row may be given twice, or be left out, when sockets come and go meanwhile. On
	// an error dst is returned as it was. Paths are not kept, but the strings in it are.
	Snapshot(dst []UnixConn, paths []string) ([]UnixConn, error)
}

// Unix reads the connections of Unix sockets by sock_diag(7), which tells what
// /proc/net/unix does not: who has closed what. It costs some 0.4 µs for each connected
// Unix socket of the network namespace.
//
// The namespace is that of the thread on which the first question is put, or the first
// after an error. The kernel counts an accepted socket to the namespace of its client:
// those of clients in other namespaces, such as containers that have the path mounted,
// are not seen. No privilege is needed. Reading allocates nothing once the slice that
// the caller passes in has grown to its size. A Unix is not safe for concurrent use.
type Unix struct {
	netlink netlink
	req     []byte
	rows    unixRows
}

// NewUnix returns a Unix. It opens nothing yet; whether the kernel answers is for
// [Unix.Probe] to say.
func NewUnix() *Unix { return &Unix{netlink: newNetlink()} }

// Name returns "unix_diag".
func (u *Unix) Name() string { return "unix_diag" }

// Close closes the socket. The Unix can be used again, and opens another one then.
func (u *Unix) Close() error {
	u.netlink.close()
	return nil
}

// Probe asks for nothing, and returns the error if the kernel refuses: netlink may be
// forbidden by seccomp, or unix_diag not be built or loaded.
func (u *Unix) Probe() error {
	u.rows = unixRows{}
	u.req = appendUnixDump(u.req[:0], 0)
	return u.netlink.ask(u.req, byFam, true, &u.rows)
}

// Snapshot appends to dst the connections that were accepted from listeners with the
// given names, and returns the longer slice; see [UnixSnapshotter]. Those that wait in
// the accept queue are not among them. Names are compared as text: of two listeners
// that were bound to one path, one after the other, both are meant.
//
// An answer that the kernel itself calls interrupted, or that found no room (ENOBUFS),
// is asked for again, four times at most; then it is an error.
func (u *Unix) Snapshot(dst []UnixConn, paths []string) ([]UnixConn, error) {
	if len(paths) == 0 {
		return dst, nil
	}
	u.rows = unixRows{dst: dst, had: len(dst), paths: paths}
	u.req = appendUnixDump(u.req[:0], Established.Mask())
	err := u.netlink.ask(u.req, byFam, true, &u.rows)
	rows := u.rows.dst
	u.rows = unixRows{}
	if err != nil {
		return dst, err
	}
	return rows, nil
}

// The wire format is that of include/uapi/linux/unix_diag.h.
const (
	unixReqSize = 24 // struct unix_diag_req
	unixRowSize = 16 // struct unix_diag_msg

	showName, showPeer           = 1 << 0, 1 << 2 // UDIAG_SHOW_…
	attrName, attrPeer, attrShut = 0, 2, 6        // UNIX_DIAG_…
	attrHeader, attrFlags        = 4, 0xc000      // struct nlattr, and bits above its type
)

// appendUnixDump appends the question for all Unix sockets in the given states.
func appendUnixDump(b []byte, states States) []byte {
	b = appendHeader(b, unixReqSize, byFam, unix.NLM_F_DUMP)
	b = append(b, unix.AF_UNIX, 0, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(states))
	b = append(b, 0, 0, 0, 0) // inode: any
	b = binary.NativeEndian.AppendUint32(b, showName|showPeer)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0) // cookie
}

// unixRows collects the rows of a dump.
type unixRows struct {
	dst   []UnixConn
	had   int
	paths []string
}

func (r *unixRows) begin() { r.dst = r.dst[:r.had] }

func (r *unixRows) refused(_ int, errno unix.Errno) error { return errno }

func (r *unixRows) row(_ int, body []byte) error {
	c, name, err := parseUnix(body)
	if err != nil || c.Inode == 0 || len(name) == 0 {
		return err
	}
	for _, p := range r.paths {
		if sameName(p, name) {
			c.Path = p
			r.dst = append(r.dst, c)
			break
		}
	}
	return nil
}

// sameName reports whether the kernel's name is path. An abstract name begins with NUL,
// any other ends with it.
func sameName(path string, name []byte) bool {
	if name[0] == 0 {
		return len(path) == len(name) && path[0] == '@' && path[1:] == string(name[1:])
	}
	if name[len(name)-1] == 0 {
		name = name[:len(name)-1]
	}
	return path == string(name)
}

// parseUnix reads one row: family, type, state, a byte of nothing; inode, and the
// cookie's halves, the lower first, four bytes each; then attributes: length 2 bytes,
// with these 4, type 2, and what it is about, filled up to a multiple of 4. The name
// shares b's memory. It is empty for what is no accepted connection.
func parseUnix(b []byte) (c UnixConn, name []byte, err error) {
	if len(b) < unixRowSize {
		return c, nil, fmt.Errorf("a row of %d bytes", len(b))
	}
	if b[0] != unix.AF_UNIX {
		return c, nil, fmt.Errorf("a row of address family %d", b[0])
	}
	stream := (b[1] == unix.SOCK_STREAM || b[1] == unix.SOCK_SEQPACKET) && State(b[2]) == Established
	c.Inode = uint64(binary.NativeEndian.Uint32(b[4:]))
	c.Cookie = uint64(binary.NativeEndian.Uint32(b[12:]))<<32 | uint64(binary.NativeEndian.Uint32(b[8:]))
	told := false
	for b = b[unixRowSize:]; len(b) > 0; {
		if len(b) < attrHeader {
			return c, nil, fmt.Errorf("%d bytes are no attribute", len(b))
		}
		size := int(binary.NativeEndian.Uint16(b))
		if size < attrHeader || size > len(b) {
			return c, nil, fmt.Errorf("an attribute of %d bytes in %d", size, len(b))
		}
		value := b[attrHeader:size]
		switch typ := binary.NativeEndian.Uint16(b[2:]) &^ attrFlags; {
		case typ == attrName:
			name = value
		case typ == attrPeer && len(value) >= 4:
			c.Peer = uint64(binary.NativeEndian.Uint32(value))
		case typ == attrShut && len(value) >= 1:
			c.Shutdown, told = Shutdown(value[0]), true
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	if !told {
		return c, nil, errors.New("a row that does not tell what was shut down")
	}
	if !stream {
		name = nil
	}
	return c, name, nil
}
