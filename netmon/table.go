package netmon

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// longestRow is more than the kernel ever prints for one row: 150 bytes for IPv4,
// some 230 with every number of an IPv6 row at its longest.
const longestRow = 256

// Table reads the TCP connections of one network namespace from /proc/net/tcp and
// /proc/net/tcp6, again and again.
//
// It owns its buffers: reading allocates nothing once they, and the slice that the
// caller passes in, have grown to their size. It keeps no file open between two
// reads. A Table is not safe for concurrent use.
type Table struct {
	tcp, tcp6 []byte // names, ending with NUL
	page      int    // the most that one read of a proc table returns
	buf       []byte
	ports     portSet // all clear between two snapshots
	parser    parser
}

// NewTable returns a Table for the proc file system mounted at fs. It reads nothing yet.
func NewTable(fs FS) *Table {
	page := os.Getpagesize()
	return &Table{
		tcp:  []byte(fs.path("net/tcp") + "\x00"),
		tcp6: []byte(fs.path("net/tcp6") + "\x00"),
		page: page,
		// More room gains nothing, as the kernel fills one page at a time; the
		// second page is for what is left of a line when fs is not a real proc.
		buf: make([]byte, 2*page),
	}
}

// Name returns "procfs".
func (t *Table) Name() string { return "procfs" }

// Close does nothing: no file is open between two reads. It makes a Table a [Source].
func (t *Table) Close() error { return nil }

// Snapshot appends the rows that f wants to dst and returns the longer slice.
// IPv4 rows come before IPv6 rows, and otherwise in the kernel's order, which means
// nothing.
//
// The kernel hands the table out page by page and lets it change in between. A row
// may therefore come twice, and one that was there all the time may be left out;
// both are rare.
//
// On an error dst is returned as it was. That tcp6 does not exist, because the
// kernel has no IPv6, is not an error. A row that cannot be parsed is one.
func (t *Table) Snapshot(dst []Conn, f Filter) ([]Conn, error) {
	t.parser = parser{dst: dst, states: f.States}
	if len(f.Ports) > 0 {
		t.parser.ports = &t.ports
		for _, p := range f.Ports {
			t.ports.add(p)
		}
	}
	err := t.readFile(t.tcp, false)
	if err == nil {
		err = t.readFile(t.tcp6, true)
	}
	for _, p := range f.Ports {
		t.ports.drop(p)
	}
	rows := t.parser.dst
	t.parser = parser{}
	if err != nil {
		return dst, err
	}
	return rows, nil
}

// readFile gives one file to the parser. An optional file may be missing.
func (t *Table) readFile(name []byte, optional bool) error {
	// Opened anew each time: reading on from a seek to the start has returned stale
	// or torn tables on several kernels.
	fd, err := open(name, 0)
	if optional && err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return t.wrap("open", name, err)
	}
	defer unix.Close(fd)
	t.parser.begun = false
	left := 0 // bytes of an unfinished line at the start of buf
	for {
		n, err := read(fd, t.buf[left:])
		if err != nil {
			return t.wrap("read", name, err)
		}
		if n == 0 && left == 0 {
			return nil
		}
		if n == 0 {
			return t.wrap("read", name, errors.New("the last line has no end"))
		}
		text := t.buf[:left+n]
		used, err := t.parser.feed(text)
		if err != nil {
			return t.wrap("parse", name, err)
		}
		left = copy(t.buf, text[used:])
		// A proc table is handed out in whole rows, as many as fit in a page
		// (fs/seq_file.c, seq_read_iter). A page with room for another row was
		// therefore the last. Reading on, only to be told so, would make the
		// kernel walk its whole hash table a second time: half of the cost when
		// there are few connections.
		if left == 0 && n < t.page-longestRow {
			return nil
		}
		if left > len(t.buf)-t.page {
			return t.wrap("parse", name, errors.New("a line is longer than a page"))
		}
	}
}

func (t *Table) wrap(op string, name []byte, err error) error {
	return fmt.Errorf("netmon: %s %s: %w", op, name[:len(name)-1], err)
}
