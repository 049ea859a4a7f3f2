package netmon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// kernel is a made-up kernel: a table that a test fills, and descriptors as links in a
// directory. It shows what real connections do too rarely to be waited for.
type kernel struct {
	t     testing.TB
	root  string
	rows  []Conn
	looks int
	err   error
	hook  func(look int) // called at the start of each look, counted from 1
}

func newKernel(t testing.TB) (*kernel, *Monitor) {
	k := &kernel{t: t, root: t.TempDir()}
	return k, NewMonitor(FS(k.root), k)
}

func (k *kernel) Snapshot(dst []Conn, f Filter) ([]Conn, error) {
	k.looks++
	if k.hook != nil {
		k.hook(k.looks)
	}
	if k.err != nil {
		return dst, k.err
	}
	for _, c := range k.rows {
		if slices.Contains(f.Ports, c.Local.Port()) && f.States.Has(c.State) && (c.Inode != 0 || c.State == TimeWait) {
			dst = append(dst, c)
		}
	}
	return dst, nil
}

// row sets the state of a socket, of which the client's port is 40000+inode.
func (k *kernel) row(inode uint64, s State) {
	c := clientConn(inode, s)
	for i := range k.rows {
		if k.rows[i].Inode == inode {
			k.rows[i] = c
			return
		}
	}
	k.rows = append(k.rows, c)
}

func clientConn(inode uint64, s State) Conn {
	c := conn("10.0.0.1:80", "10.0.0.2:0", inode, s)
	c.Remote = netip.AddrPortFrom(c.Remote.Addr(), uint16(40000+inode))
	return c
}

func (k *kernel) noRow(inode uint64) {
	k.rows = slices.DeleteFunc(k.rows, func(c Conn) bool { return c.Inode == inode })
}

func (k *kernel) fd(pid, fd int, inode uint64) {
	k.link(pid, fd, fmt.Sprintf("socket:[%d]", inode))
}

func (k *kernel) link(pid, fd int, target string) {
	k.noFD(pid, fd)
	name := k.fdName(pid, fd)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) noFD(pid, fd int) {
	if err := os.Remove(k.fdName(pid, fd)); err != nil && !errors.Is(err, os.ErrNotExist) {
		k.t.Fatal(err)
	}
}

func (k *kernel) fdName(pid, fd int) string {
	return filepath.Join(k.root, strconv.Itoa(pid), "fd", strconv.Itoa(fd))
}

var port80 = []uint16{80}

func lost(pid int, inode uint64, how How) Lost {
	c := clientConn(inode, CloseWait)
	return Lost{PID: pid, Proto: "tcp", Local: c.Local, Foreign: c.Remote, Inode: inode, How: how}
}

// expect polls once and compares.
func expect(t *testing.T, m *Monitor, pids []int, want ...Lost) {
	t.Helper()
	got, err := m.Poll(nil, port80, pids)
	if err != nil {
		t.Fatal(err)
	}
	check(t, got, want)
	m.checkBooks(t)
}

func check(t *testing.T, got, want []Lost) {
	t.Helper()
	opts := []cmp.Option{
		cmpopts.EquateEmpty(),
		cmpopts.SortSlices(func(a, b Lost) bool { return a.Inode < b.Inode }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	}
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
}

// checkBooks checks that what the monitor remembers fits together.
func (m *Monitor) checkBooks(t interface {
	Helper()
	Fatalf(string, ...any)
}) {
	t.Helper()
	if len(m.index) != len(m.entries) {
		t.Fatalf("%d entries, %d in the index", len(m.entries), len(m.index))
	}
	for i, e := range m.entries {
		if m.index[e.inode] != i {
			t.Fatalf("entry %d is indexed as %d", i, m.index[e.inode])
		}
	}
	for at, inode := range m.slots {
		i, ok := m.index[inode]
		if !ok || m.entries[i].pid != at.pid || m.entries[i].fd != at.fd {
			t.Fatalf("slot %v is said to hold %d", at, inode)
		}
	}
}

// eventually waits until ok, at most ten seconds.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
		time.Sleep(time.Millisecond)
	}
}
