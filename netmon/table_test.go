package netmon

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// fakeTable writes a tcp and a tcp6 of n rows each below a new directory, of which
// each tenth is on port 8080.
func fakeTable(t testing.TB, n int) (FS, []Conn) {
	dir := t.TempDir()
	var v4, v6 strings.Builder
	v4.WriteString(header4)
	v6.WriteString(header6)
	var all4, all6 []Conn
	for i := range n {
		port := uint16(9000 + i%10)
		if i%10 == 0 {
			port = 8080
		}
		c := Conn{
			Local:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), port),
			Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), uint16(1024+i%60000)),
			Inode:  uint64(100_000 + i),
			State:  Established,
		}
		v4.WriteString(render(i, c, false))
		all4 = append(all4, c)
		c.Inode += 1 << 40
		v6.WriteString(render(i, c, true))
		all6 = append(all6, c)
	}
	write(t, dir, "net/tcp", v4.String())
	write(t, dir, "net/tcp6", v6.String())
	return FS(dir), append(all4, all6...)
}

func TestTableReadsAllPages(t *testing.T) {
	root, want := fakeTable(t, 1000)
	table := NewTable(root)
	for range 2 {
		got, err := table.Snapshot(nil, Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpConn); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
		// The ports of one call must not stay on in the next.
		if _, err := table.Snapshot(nil, Filter{Ports: []uint16{9001, 9002}}); err != nil {
			t.Fatal(err)
		}
		some, err := table.Snapshot(got[:1], Filter{Ports: []uint16{8080}})
		if err != nil || len(some) != 1+200 || some[0] != want[0] {
			t.Fatalf("%d rows, %v", len(some), err)
		}
	}
}

// Where a row falls on the border of a page, and the file ends there, must not matter.
func TestTablePageBorders(t *testing.T) {
	needLittleEndian(t)
	dir := t.TempDir()
	write(t, dir, "net/tcp6", header6)
	table := NewTable(FS(dir))
	page := os.Getpagesize()
	for pad := range 400 {
		// A longer number of the first row moves all that follow.
		text := header4 + strings.Repeat("0", pad) + estab4
		rows := 1
		for len(text) < 3*page {
			text += estab4
			rows++
		}
		write(t, dir, "net/tcp", text)
		got, err := table.Snapshot(nil, Filter{})
		if err != nil || len(got) != rows {
			t.Fatalf("pad %d: %d of %d rows, %v", pad, len(got), rows, err)
		}
	}
}

func TestTableWithoutIPv6(t *testing.T) {
	needLittleEndian(t)
	dir := t.TempDir()
	write(t, dir, "net/tcp", header4+estab4)
	got, err := NewTable(FS(dir)).Snapshot(nil, Filter{})
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
}

// A page that is not full is the last, and reading on would cost as much again. Whoever
// reads on from this pipe waits for ever. // B44
func TestTableStopsAtShortPage(t *testing.T) {
	needLittleEndian(t)
	dir := t.TempDir()
	write(t, dir, "net/tcp6", header6)
	name := filepath.Join(dir, "net/tcp")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if _, err := pipe.WriteString(header4 + estab4 + otherPt4); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(10*time.Second, func() { pipe.WriteString("it read on\n") })
	defer timer.Stop()
	got, err := NewTable(FS(dir)).Snapshot(nil, Filter{})
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
}

func TestTableErrors(t *testing.T) {
	needLittleEndian(t)
	had := []Conn{{Inode: 1}}
	check := func(name string, root FS, mention string, is error) {
		t.Helper()
		got, err := NewTable(root).Snapshot(had, Filter{})
		if err == nil || len(got) != 1 {
			t.Fatalf("%s: %d rows, error %v", name, len(got), err)
		}
		if !strings.Contains(err.Error(), mention) || !strings.HasPrefix(err.Error(), "netmon: ") {
			t.Errorf("%s: %v does not mention %s", name, err, mention)
		}
		if is != nil && !errors.Is(err, is) {
			t.Errorf("%s: %v is not %v", name, err, is)
		}
	}
	dir := t.TempDir()
	check("no such file", FS(dir), filepath.Join(dir, "net/tcp"), fs.ErrNotExist)
	write(t, dir, "net/tcp", header4+estab4[:60])
	check("cut short", FS(dir), "net/tcp", nil)
	write(t, dir, "net/tcp", header4+estab4+"what is this\n")
	check("garbage", FS(dir), "what is this", nil)
	write(t, dir, "net/tcp", header4+strings.Repeat(" ", 4*os.Getpagesize()))
	check("no end of line", FS(dir), "longer than a page", nil)
	write(t, dir, "net/tcp", header4+estab4)
	write(t, dir, "net/tcp6", "?\n")
	check("second file", FS(dir), "net/tcp6", nil)
}

// A look must cost no memory, and must leave no descriptor open. // B44
func TestSnapshotAllocatesNothing(t *testing.T) {
	root, _ := fakeTable(t, 2000)
	for _, root := range []FS{root, DefaultFS, ""} {
		table := NewTable(root)
		filter := Filter{Ports: []uint16{8080, 80}, States: watched}
		var rows []Conn
		look := func() {
			var err error
			if rows, err = table.Snapshot(rows[:0], filter); err != nil {
				t.Fatal(err)
			}
		}
		look()
		before := openFDs(t)
		if n := testing.AllocsPerRun(20, look); n != 0 {
			t.Errorf("%q: %v allocations a snapshot", root, n)
		}
		if after := openFDs(t); after != before {
			t.Errorf("%q: %d descriptors before, %d after", root, before, after)
		}
	}
}

func openFDs(t testing.TB) int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		got  fmt.Stringer
		want string
	}{
		{Established, "ESTABLISHED"}, {CloseWait, "CLOSE_WAIT"}, {Closing, "CLOSING"}, {Listen, "LISTEN"},
		{State(0), "state(0)"}, {State(12), "state(12)"},
		{Closed, "closed"}, {Reset, "reset"}, {HalfClosed, "half-closed"}, {TimedOut, "timed out"}, {How(0), "how(0)"},
	} {
		if got := tt.got.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	// The numbers are the kernel's.
	if Established != 1 || TimeWait != 6 || CloseWait != 8 || Listen != 10 || Closing != 11 {
		t.Error("states are numbered wrongly")
	}
}
