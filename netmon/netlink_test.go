package netmon

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeLink is a kernel that gives made-up answers: for each question sent, the next of
// its scripts.
type fakeLink struct {
	scripts [][]any // each a []byte, which is a datagram, or an error
	now     []any
	opened  int
	closed  int
	asked   [][]byte
	from    uint32
}

func (f *fakeLink) open() (link, error) {
	f.opened++
	f.now = nil
	return f, nil
}

func (f *fakeLink) send(b []byte) error {
	f.asked = append(f.asked, slices.Clone(b))
	if len(f.scripts) == 0 {
		return errors.New("asked too often")
	}
	f.now, f.scripts = f.scripts[0], f.scripts[1:]
	return nil
}

func (f *fakeLink) recv(buf []byte) (int, uint32, error) {
	if len(f.now) == 0 {
		return 0, 0, errors.New("nothing more comes")
	}
	next := f.now[0]
	f.now = f.now[1:]
	if err, ok := next.(error); ok {
		return 0, 0, err
	}
	b := slices.Clone(next.([]byte))
	// The numbers of the questions are not known to whoever wrote the script.
	last := f.asked[len(f.asked)-1]
	for at := 0; at+unix.NLMSG_HDRLEN <= len(b); {
		seq := binary.NativeEndian.Uint32(b[at+8:])
		if seq < 1000 {
			binary.NativeEndian.PutUint32(b[at+8:], seq+binary.NativeEndian.Uint32(last[8:]))
		}
		size := int(binary.NativeEndian.Uint32(b[at:]))
		if size < unix.NLMSG_HDRLEN {
			break
		}
		at += (size + 3) &^ 3
	}
	n := copy(buf, b)
	return max(n, len(b)), f.from, nil
}

func (f *fakeLink) close() { f.closed++ }

// message makes one message; seq counts from the first question.
func message(typ, flags uint16, seq uint32, body ...byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0)
	b = append(b, body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func number32(n int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

// diagBody is a row as the kernel sends it.
func diagBody(c Conn) []byte {
	b := make([]byte, rowSize)
	b[0], b[1] = unix.AF_INET, byte(c.State)
	local, remote := c.Local.Addr().AsSlice(), c.Remote.Addr().AsSlice()
	if len(local) == 16 {
		b[0] = unix.AF_INET6
	}
	binary.BigEndian.PutUint16(b[4:], c.Local.Port())
	binary.BigEndian.PutUint16(b[6:], c.Remote.Port())
	copy(b[8:], local)
	copy(b[24:], remote)
	binary.NativeEndian.PutUint32(b[40:], c.Device)
	binary.NativeEndian.PutUint32(b[44:], uint32(c.Cookie))
	binary.NativeEndian.PutUint32(b[48:], uint32(c.Cookie>>32))
	binary.NativeEndian.PutUint32(b[68:], uint32(c.Inode))
	return b
}

func fakeDiag(scripts ...[]any) (*Diag, *fakeLink) {
	f := &fakeLink{scripts: scripts}
	d := NewDiag()
	d.netlink.open = f.open
	return d, f
}

// What the kernel could not tell in one piece is asked for again, from the start; what
// it refuses is not.
func TestDumpTroubles(t *testing.T) {
	one, two := conn("10.0.0.1:80", "10.0.0.2:5000", 11, Established), conn("[::1]:80", "[::1]:5001", 12, CloseWait)
	one.Cookie, two.Cookie, two.Device = 1<<40+5, 6, 3
	row := func(c Conn) []byte { return message(getSock, unix.NLM_F_MULTI, 0, diagBody(c)...) }
	done := message(unix.NLMSG_DONE, unix.NLM_F_MULTI, 0, number32(0)...)
	whole := []any{append(row(one), row(two)...), done}
	torn := message(getSock, unix.NLM_F_MULTI|unix.NLM_F_DUMP_INTR, 0, diagBody(two)...)
	other := message(getSock, unix.NLM_F_MULTI, 5000, diagBody(two)...)
	for _, tt := range []struct {
		name    string
		scripts [][]any
		asked   int
		err     string // empty: both rows are given
	}{
		{"at once", [][]any{whole}, 1, ""},
		{"end in the same datagram", [][]any{{slices.Concat(row(one), row(two), done)}}, 1, ""},
		{"one by one, with noise", [][]any{{row(one), message(unix.NLMSG_NOOP, 0, 0), other, row(two), done}}, 1, ""},
		{"interrupted", [][]any{{row(one), torn, done}, whole}, 2, ""},
		{"interrupted at the end", [][]any{{row(one), message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, 0, number32(0)...)}, whole}, 2, ""},
		{"no room", [][]any{{row(one), unix.ENOBUFS}, {row(two), unix.ENOBUFS}, whole}, 3, ""},
		{"overrun", [][]any{{row(one), message(unix.NLMSG_OVERRUN, 0, 0)}, whole}, 2, ""},
		{"always interrupted", slices.Repeat([][]any{{row(one), torn, done}}, 9), attempts, "interrupted"},
		{"never room", slices.Repeat([][]any{{row(one), unix.ENOBUFS}}, 9), attempts, "no buffer space"},
		{"refused", [][]any{{message(unix.NLMSG_ERROR, 0, 0, number32(-int32(unix.EPERM))...)}}, 1, "not permitted"},
		{"refused in the end", [][]any{{row(one), message(unix.NLMSG_DONE, 0, 0, number32(-int32(unix.ENOENT))...)}}, 1, "no such file"},
		{"error zero", [][]any{{message(unix.NLMSG_ERROR, 0, 0, number32(0)...)}}, 1, "error 0"},
		{"error without number", [][]any{{message(unix.NLMSG_ERROR, 0, 0, 1, 2)}}, 1, "without a number"},
		{"unknown type", [][]any{{message(77, 0, 0)}}, 1, "type 77"},
		{"short row", [][]any{{message(getSock, 0, 0, diagBody(one)[:rowSize-1]...)}}, 1, "71 bytes"},
		{"another family", [][]any{{message(getSock, 0, 0, make([]byte, rowSize)...)}}, 1, "family 0"},
		{"short message", [][]any{{row(one)[:unix.NLMSG_HDRLEN-1]}}, 1, "no message"},
		{"message longer than the datagram", [][]any{{row(one)[:40]}}, 1, "bytes in 40"},
		{"datagram cut short", [][]any{{make([]byte, answerRoom+1)}}, 1, "cut short"},
		{"the link fails", [][]any{{row(one), unix.EBADF}}, 1, "bad file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, f := fakeDiag(tt.scripts...)
			had := []Conn{{Inode: 1}}
			got, err := d.Snapshot(had, Filter{States: watched})
			if len(f.asked) != tt.asked || f.opened != tt.asked {
				t.Errorf("asked %d times on %d sockets, want %d", len(f.asked), f.opened, tt.asked)
			}
			if tt.err == "" {
				if err != nil || !slices.Equal(got, []Conn{{Inode: 1}, one, two}) || f.closed != tt.asked-1 {
					t.Fatal(got, err, f.closed)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.HasPrefix(err.Error(), "netmon: sock_diag: ") || len(got) != 1 {
				t.Fatal(got, err)
			}
			// What is left of this answer must not be taken for part of the next.
			f.scripts = [][]any{whole}
			if got, err := d.Snapshot(nil, Filter{States: watched}); err != nil || len(got) != 2 || f.opened != tt.asked+1 {
				t.Fatal(got, err, f.opened)
			}
		})
	}
}

// Any process may send to a netlink socket whose port it guesses.
func TestAnswersOfOthers(t *testing.T) {
	d, f := fakeDiag([]any{message(unix.NLMSG_DONE, 0, 0, number32(0)...)})
	f.from = 4711
	if _, err := d.Snapshot(nil, Filter{}); err == nil || !strings.Contains(err.Error(), "nothing more comes") {
		t.Fatal(err)
	}
}

// Not in the answer, though it was asked for: the kernel sends what was not asked for, as
// it does where it cannot filter.
func TestRowsThatAreNotWanted(t *testing.T) {
	want := conn("10.0.0.1:80", "10.0.0.2:5000", 11, CloseWait)
	var all []byte
	for _, c := range []Conn{
		want,
		conn("10.0.0.1:81", "10.0.0.2:5000", 12, CloseWait),
		conn("10.0.0.1:80", "10.0.0.2:5001", 13, Established),
		conn("10.0.0.1:80", "10.0.0.2:5002", 0, CloseWait), // still in the accept queue
		conn("10.0.0.1:80", "10.0.0.2:5003", 0, TimeWait),
	} {
		all = append(all, message(getSock, 0, 0, diagBody(c)...)...)
	}
	all = append(all, message(unix.NLMSG_DONE, 0, 0, number32(0)...)...)
	d, _ := fakeDiag([]any{all})
	got, err := d.Snapshot(nil, Filter{Ports: []uint16{80}, States: CloseWait.Mask()})
	if err != nil || !slices.Equal(got, []Conn{want}) {
		t.Fatal(got, err)
	}
}

func FuzzNetlink(f *testing.F) {
	row := message(getSock, unix.NLM_F_MULTI, 1, diagBody(conn("10.0.0.1:80", "10.0.0.2:5000", 11, CloseWait))...)
	f.Add(row, true)
	f.Add(append(slices.Clone(row), message(unix.NLMSG_DONE, 0, 1, number32(0)...)...), true)
	f.Add(message(unix.NLMSG_ERROR, 0, 1, number32(-1)...), false)
	f.Add(message(byFam, 0, 2, diagBody(conn("[::1]:80", "[::1]:5000", 1<<32-1, Listen))...), false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, true)
	f.Add([]byte{0, 0, 0, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, true)
	f.Add([]byte{17, 0, 0, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9}, true)
	f.Fuzz(func(t *testing.T, b []byte, dump bool) {
		rows, kind, left := &diagRows{}, uint16(getSock), 1
		var r reader = rows
		found := exactRows{n: 3}
		if !dump {
			r, kind, left = &found, byFam, 3
		}
		answered, err := readAnswers(b, 1, left, kind, dump, r)
		if answered < 0 || answered > left {
			t.Fatalf("%d of %d questions answered", answered, left)
		}
		if err == nil && len(rows.dst) > len(b)/rowSize {
			t.Fatalf("%d rows in %d bytes", len(rows.dst), len(b))
		}
		for _, c := range rows.dst {
			if !c.Local.IsValid() || !c.Remote.IsValid() || c.Local.Addr().Is4In6() || c.Inode == 0 {
				t.Fatalf("%+v", c)
			}
			// What was read must be what a row made from it gives.
			if again, err := parseDiag(diagBody(c)); err == nil && again != c && c.Local.Addr().Is4() == c.Remote.Addr().Is4() {
				t.Fatalf("%+v came back as %+v", c, again)
			}
		}
	})
}

// The questions themselves: each is a whole message of its stated length, and the
// little program for the kernel never jumps out of itself but to say no.
func FuzzQuestion(f *testing.F) {
	f.Add([]byte{80, 0}, uint16(2))
	f.Add([]byte{80, 0, 187, 1, 255, 255}, uint16(0xffff))
	f.Fuzz(func(t *testing.T, raw []byte, states uint16) {
		var ports []uint16
		for ; len(raw) >= 2; raw = raw[2:] {
			ports = append(ports, binary.LittleEndian.Uint16(raw))
		}
		b := appendDump(nil, States(states), ports)
		if int(binary.NativeEndian.Uint32(b)) != len(b) || len(b)%4 != 0 {
			t.Fatalf("%d bytes said to be %d", len(b), binary.NativeEndian.Uint32(b))
		}
		if len(b) == unix.NLMSG_HDRLEN+oldSize {
			if len(ports) > 1 && len(ports) <= maxPorts {
				t.Fatal("the kernel is not asked to filter")
			}
			return
		}
		attr := b[unix.NLMSG_HDRLEN+oldSize:]
		if int(binary.NativeEndian.Uint16(attr)) != len(attr) {
			t.Fatalf("an attribute of %d bytes in %d", binary.NativeEndian.Uint16(attr), len(attr))
		}
		for _, p := range append(ports, 0, 1, 80, 65535) {
			if got, want := runFilter(t, attr[4:], p), slices.Contains(ports, p); got != want {
				t.Fatalf("port %d of %v: %v", p, ports, got)
			}
		}
	})
}

// runFilter runs the program as the kernel does (net/ipv4/inet_diag.c,
// inet_diag_bc_run and inet_diag_bc_audit).
func runFilter(t *testing.T, bc []byte, port uint16) bool {
	left := len(bc)
	for left > 0 {
		op := bc[len(bc)-left:]
		code, yes, no := op[0], int(op[1]), int(binary.NativeEndian.Uint16(op[2:]))
		if yes < 4 || yes%4 != 0 || yes > left || no < 4 || no%4 != 0 || no > left+4 {
			t.Fatalf("the kernel would refuse %d,%d,%d with %d bytes left", code, yes, no, left)
		}
		ok := false
		switch code {
		case opAtLeast:
			ok = port >= binary.NativeEndian.Uint16(op[6:])
		case opAtMost:
			ok = port <= binary.NativeEndian.Uint16(op[6:])
		}
		if ok {
			left -= yes
		} else {
			left -= no
		}
	}
	return left == 0
}

// The kernel answers whatever question may be put.
func TestQuestionsAreUnderstood(t *testing.T) {
	d := newDiag(t)
	for _, c := range []Conn{conn("10.0.0.1:80", "10.0.0.2:5000", 1, CloseWait), conn("[::1]:80", "[2001:db8::1]:5000", 1, CloseWait)} {
		c.Cookie = 77
		if got, err := d.Lookup(nil, []Conn{c}); err != nil || got[0] != 0 {
			t.Error(got, err)
		}
	}
	if how, err := d.Confirm(Lost{How: Closed, Local: netip.MustParseAddrPort("127.0.0.1:1"), Foreign: netip.MustParseAddrPort("127.0.0.1:2")}); err != nil || how != Closed {
		t.Error(how, err)
	}
}
