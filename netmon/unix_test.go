package netmon

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unixBody is a row as the kernel sends it.
func unixBody(c UnixConn, name string) []byte {
	b := []byte{unix.AF_UNIX, unix.SOCK_STREAM, byte(Established), 0}
	b = binary.NativeEndian.AppendUint32(b, uint32(c.Inode))
	b = binary.NativeEndian.AppendUint32(b, uint32(c.Cookie))
	b = binary.NativeEndian.AppendUint32(b, uint32(c.Cookie>>32))
	attr := func(typ uint16, value []byte) {
		b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(value)))
		b = binary.NativeEndian.AppendUint16(b, typ)
		b = append(b, value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	if name != "" {
		attr(attrName, []byte(name))
	}
	attr(attrPeer, binary.NativeEndian.AppendUint32(nil, uint32(c.Peer)))
	attr(attrShut, []byte{byte(c.Shutdown)})
	return b
}

func TestUnixNames(t *testing.T) {
	for _, tt := range []struct {
		path, name string
		same       bool
	}{
		{"/run/s", "/run/s\x00", true}, {"/run/s", "/run/s", true}, {"/run/s", "/run/ss\x00", false},
		{"/run/s", "\x00/run/s", false}, {"@s", "\x00s", true}, {"@s", "@s\x00", true}, {"@s", "\x00s\x00", false},
		{"", "\x00", false}, {"@", "\x00", true},
	} {
		if sameName(tt.path, []byte(tt.name)) != tt.same {
			t.Errorf("%q, %q", tt.path, tt.name)
		}
	}
}

func FuzzUnix(f *testing.F) {
	row := unixBody(UnixConn{Inode: 7, Cookie: 1<<40 + 3, Peer: 9, Shutdown: ShutRead}, "/run/s\x00")
	f.Add(row)
	f.Add(row[:unixRowSize])
	f.Add(row[:len(row)-3])
	f.Add(append(slices.Clone(row[:unixRowSize]), 0, 0, 0, 0))
	f.Add(append(slices.Clone(row[:unixRowSize]), 0xff, 0xff, 0, 0))
	f.Add(append(slices.Clone(row[:unixRowSize]), 5, 0, 6, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, name, err := parseUnix(b)
		if err != nil {
			if strings.Contains(err.Error(), "%!") {
				t.Fatal(err)
			}
			return
		}
		if len(name) > len(b)-unixRowSize {
			t.Fatalf("a name of %d bytes in %d", len(name), len(b))
		}
		if again, _, err := parseUnix(unixBody(c, string(name))); err != nil || again != c {
			t.Fatalf("%+v came back as %+v, %v", c, again, err)
		}
	})
}

// What the kernel shows of one end, and who has done it.
func TestUnixJudge(t *testing.T) {
	for _, tt := range []struct {
		name string
		conn UnixConn
		how  How
		ours bool
	}{
		{"both talk", UnixConn{Peer: 9}, 0, false},
		{"the client is on its way out", UnixConn{}, 0, false},
		{"the client closed", UnixConn{Shutdown: ShutRead | ShutWrite}, Closed, false},
		{"the client shut down its writing", UnixConn{Peer: 9, Shutdown: ShutRead}, HalfClosed, false},
		{"the same, and on its way out", UnixConn{Shutdown: ShutRead}, Closed, false},
		{"we shut down our writing", UnixConn{Peer: 9, Shutdown: ShutWrite}, 0, true},
		{"the same, and the client is on its way out", UnixConn{Shutdown: ShutWrite}, 0, true},
		{"both directions have ended, and the client is there", UnixConn{Peer: 9, Shutdown: ShutRead | ShutWrite}, 0, true},
	} {
		if how, ours := tt.conn.judge(); how != tt.how || ours != tt.ours {
			t.Errorf("%s: %v, %v", tt.name, how, ours)
		}
	}
}

// unixRowsOf is a made-up kernel.
type unixRowsOf []UnixConn

func (u *unixRowsOf) Snapshot(dst []UnixConn, paths []string) ([]UnixConn, error) {
	for _, c := range *u {
		if slices.Contains(paths, c.Path) {
			dst = append(dst, c)
		}
	}
	return dst, nil
}

// A row that is left out of a dump means nothing, one that comes twice means one, and an
// inode that is used again is another socket.
func TestUnixRows(t *testing.T) {
	k, m := newKernel(t)
	var u unixRowsOf
	m.WatchUnix(&u, "/s")
	talks := UnixConn{Path: "/s", Inode: 1, Cookie: 1, Peer: 9}
	closed := UnixConn{Path: "/s", Inode: 1, Cookie: 1, Shutdown: ShutRead | ShutWrite}
	told := Lost{PID: 7, Proto: "unix", Path: "/s", Inode: 1, How: Closed}
	k.fd(7, 4, 1)
	poll := func(rows unixRowsOf, want ...Lost) {
		t.Helper()
		u = rows
		got, err := m.Poll(nil, nil, []int{7})
		if err != nil {
			t.Fatal(err)
		}
		check(t, got, want)
		m.checkBooks(t)
	}
	poll(unixRowsOf{talks, talks})
	poll(nil)
	poll(unixRowsOf{talks})
	poll(unixRowsOf{closed, closed}, told)
	poll(nil)
	poll(unixRowsOf{closed})
	again := talks
	again.Cookie = 2
	poll(unixRowsOf{again})
	half := again
	half.Shutdown = ShutRead
	poll(unixRowsOf{half}, Lost{PID: 7, Proto: "unix", Path: "/s", Inode: 1, How: HalfClosed})
	again.Peer, again.Shutdown = 0, ShutRead|ShutWrite
	poll(unixRowsOf{again}, told)
	poll(unixRowsOf{again})
	// What was seen of our own end is not forgotten when a dump fails.
	ours := UnixConn{Path: "/s", Inode: 1, Cookie: 3, Peer: 9, Shutdown: ShutWrite}
	poll(unixRowsOf{ours})
	m.WatchUnix(brokenUnix{}, "/s")
	if got, err := m.Poll(nil, nil, []int{7}); !errors.Is(err, errBroken) || len(got) > 0 {
		t.Fatal(got, err)
	}
	m.WatchUnix(&u, "/s")
	ours.Peer, ours.Shutdown = 0, ShutRead|ShutWrite
	poll(unixRowsOf{ours})
}
