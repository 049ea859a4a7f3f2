package netmon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const (
	header4 = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n"
	header6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
)

// Rows as a little-endian kernel printed them; skipped elsewhere, see needLittleEndian.
const (
	listen4  = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1573 1 0000000017075bf0 100 0 0 10 0                      \n"
	estab4   = "   1: 0100007F:1F90 0200000A:C350 01 00000000:00000005 00:00000000 00000000  1000        0 98765 1 00000000deadbeef 20 4 30 10 -1                   \n"
	queued4  = "   2: 0100007F:1F90 0100007F:C351 01 00000000:00000000 00:00000000 00000000     0        0 0 1 00000000deadbeef 20 4 30 10 -1                       \n"
	timewt4  = "1234567: 0100007F:1F90 0100007F:C352 06 00000000:00000000 03:00000176 00000000     0        0 0 3 00000000deadbeef                                      \n"
	mapped6  = "   0: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:C353 08 00000001:00000000 00:00000000 00000000     0        0 4294967295 1 00000000deadbeef 20 4 0 10 -1\n"
	loop6    = "   1: 00000000000000000000000001000000:1F90 B80D0120000000000000000001000000:0050 04 00000001:00000000 01:00000014 00000000     0        0 18446744073709551615 1 00000000deadbeef 20 4 0 10 -1\n"
	otherPt4 = "   3: 0100007F:1F91 0100007F:C354 01 00000000:00000000 00:00000000 00000000     0        0 77 1 00000000deadbeef 20 4 30 10 -1                      \n"
)

func needLittleEndian(t testing.TB) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the literal rows are those of a little-endian machine")
	}
}

func conn(local, remote string, inode uint64, s State) Conn {
	return Conn{Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote), Inode: inode, State: s}
}

// parseAll parses text given in pieces of n bytes; 0 is all at once.
func parseAll(text string, f Filter, n int) ([]Conn, error) {
	p := parser{states: f.States}
	if len(f.Ports) > 0 {
		p.ports = new(portSet)
		for _, port := range f.Ports {
			p.ports.add(port)
		}
	}
	if n <= 0 {
		n = max(1, len(text))
	}
	var buf []byte
	for rest := []byte(text); len(rest) > 0; {
		k := min(n, len(rest))
		buf = append(buf, rest[:k]...)
		rest = rest[k:]
		used, err := p.feed(buf)
		if err != nil {
			return p.dst, err
		}
		buf = append(buf[:0], buf[used:]...)
	}
	if len(buf) > 0 {
		return p.dst, fmt.Errorf("left over: %q", buf)
	}
	return p.dst, nil
}

func TestParse(t *testing.T) {
	needLittleEndian(t)
	var (
		cListen = conn("127.0.0.1:8080", "0.0.0.0:0", 1573, Listen)
		cEstab  = conn("127.0.0.1:8080", "10.0.0.2:50000", 98765, Established)
		cWait   = conn("127.0.0.1:8080", "127.0.0.1:50002", 0, TimeWait)
		cMapped = conn("127.0.0.1:8080", "127.0.0.1:50003", 1<<32-1, CloseWait)
		cLoop   = conn("[::1]:8080", "[2001:db8::1]:80", 1<<64-1, FinWait1)
		cOther  = conn("127.0.0.1:8081", "127.0.0.1:50004", 77, Established)
	)
	all := header4 + listen4 + estab4 + queued4 + timewt4 + otherPt4 + mapped6 + loop6
	tests := []struct {
		name, text string
		filter     Filter
		want       []Conn
	}{
		{"nothing", "", Filter{}, nil},
		{"header only", header4, Filter{}, nil},
		{"header of tcp6", header6 + loop6, Filter{}, []Conn{cLoop}},
		{"no header", estab4, Filter{}, []Conn{cEstab}},
		{"everything with an inode", all, Filter{}, []Conn{cListen, cEstab, cOther, cMapped, cLoop}},
		{"one port", all, Filter{Ports: []uint16{8081}}, []Conn{cOther}},
		{"two ports", all, Filter{Ports: []uint16{8081, 8080, 1}}, []Conn{cListen, cEstab, cOther, cMapped, cLoop}},
		{"port of nobody", all, Filter{Ports: []uint16{50000}}, nil},
		{"one state", all, Filter{States: CloseWait.Mask()}, []Conn{cMapped}},
		{"states and port", all, Filter{Ports: []uint16{8080}, States: Established.Mask() | FinWait1.Mask()}, []Conn{cEstab, cLoop}},
		{"TIME_WAIT only if named", all, Filter{States: TimeWait.Mask()}, []Conn{cWait}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, piece := range []int{0, 1, 7, 150, 4096} {
				got, err := parseAll(tt.text, tt.filter, piece)
				if err != nil {
					t.Fatalf("in pieces of %d: %v", piece, err)
				}
				if d := cmp.Diff(tt.want, got, cmpConn); d != "" {
					t.Errorf("in pieces of %d (-want +got):\n%s", piece, d)
				}
			}
		})
	}
}

var cmpConn = cmp.Comparer(func(a, b Conn) bool { return a == b })

func TestParseBadRows(t *testing.T) {
	needLittleEndian(t)
	replace := func(old, new string) string {
		s := strings.Replace(estab4, old, new, 1)
		if s == estab4 {
			t.Fatalf("%q is not in the row", old)
		}
		return s
	}
	for _, bad := range []string{
		"\n", "   \n", "garbage\n", ":\n", ": \n", "0:\n", "0: \n", "0: 0:0\n",
		"\x00\xff\n", strings.Repeat("9", 5000) + "\n", strings.Repeat(": ", 300) + "\n",
		header4,                         // a second header is no row
		replace("0100007F", "0100007G"), // not a digit
		replace("0200000A", "0200 00A"),
		replace(":1F90", ":1F9x"),
		replace(":C350", ":x350"),
		replace(" 01 ", " zz "),
		replace(" 01 ", " 001 "),
		replace("98765", "-1"),
		replace("98765", "98765x"),
		replace("98765", "18446744073709551616"),
		replace("98765", "99999999999999999999"),
		replace("98765", "000000000000000000000000001"),
	} {
		if got, err := parseAll(header4+estab4+bad, Filter{}, 0); err == nil {
			t.Errorf("%.80q was taken for %v", bad, got[1:])
		} else if len(err.Error()) > 1000 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
	}
}

// A row that was cut short must never come out as another row.
func TestParseTruncated(t *testing.T) {
	needLittleEndian(t)
	for _, row := range []string{estab4, mapped6, loop6, listen4} {
		want, err := parseAll(row, Filter{}, 0)
		if err != nil || len(want) != 1 {
			t.Fatal(want, err)
		}
		for n := 1; n < len(row)-1; n++ {
			if _, err := parseAll(row[:n], Filter{}, 0); err == nil {
				t.Errorf("no error without the end of line: %q", row[:n])
			}
			got, err := parseAll(row[:n]+"\n", Filter{}, 0)
			if err == nil && (len(got) != 1 || got[0] != want[0]) {
				t.Errorf("%q was taken for %v", row[:n], got)
			}
		}
	}
}

// render prints a row as the kernel does; it shares nothing with the parser.
func render(n int, c Conn, v6 bool) string {
	end := func(ap netip.AddrPort) string {
		raw := ap.Addr().AsSlice()
		if v6 {
			a := ap.Addr().As16()
			raw = a[:]
		}
		var s string
		for ; len(raw) > 0; raw = raw[4:] {
			s += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(raw))
		}
		return fmt.Sprintf("%s:%04X", s, ap.Port())
	}
	s := fmt.Sprintf("%4d: %s %s %02X %08X:%08X %02X:%08X %08X %5d %8d %d %d %016x %d %d %d %d %d",
		n, end(c.Local), end(c.Remote), uint8(c.State), n, n*7, n%5, n*3, n%9, n%70000, n%3, c.Inode,
		1, uint32(0xdeadbeef), 20, 4, 30, 10, -1)
	if v6 {
		return s + "\n"
	}
	return fmt.Sprintf("%-149s\n", s)
}

func TestParseRendered(t *testing.T) {
	addrGen := rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "v4") {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "addr")))
		}
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr"))).Unmap()
	})
	connGen := rapid.Custom(func(t *rapid.T) Conn {
		return Conn{
			Local:  netip.AddrPortFrom(addrGen.Draw(t, "local"), rapid.Uint16().Draw(t, "lport")),
			Remote: netip.AddrPortFrom(addrGen.Draw(t, "remote"), rapid.Uint16().Draw(t, "rport")),
			Inode:  rapid.Uint64Min(1).Draw(t, "inode"),
			State:  State(rapid.Uint8Range(1, 15).Draw(t, "state")),
		}
	})
	dir := t.TempDir()
	table := NewTable(FS(dir))
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(connGen, 0, 80).Draw(t, "rows")
		var v4, v6 bytes.Buffer
		v4.WriteString(header4)
		v6.WriteString(header6)
		var want4, want6 []Conn
		for _, c := range rows {
			plain := c.Local.Addr().Is4() && c.Remote.Addr().Is4() && rapid.Bool().Draw(t, "in tcp")
			number := rapid.IntRange(0, 1<<30).Draw(t, "sl")
			if plain {
				v4.WriteString(render(number, c, false))
				want4 = append(want4, c)
			} else {
				v6.WriteString(render(number, c, true))
				want6 = append(want6, c)
			}
		}
		write(t, dir, "net/tcp", v4.String())
		write(t, dir, "net/tcp6", v6.String())
		got, err := table.Snapshot(nil, Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(append(want4, want6...), got, cmpConn); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	})
}

// write makes a file below dir, and the directories that lead to it.
func write(t interface{ Fatal(...any) }, dir, name, text string) {
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", header4, header6, listen4, estab4, queued4, timewt4, mapped6, loop6,
		header4 + estab4 + estab4, header6 + loop6 + mapped6, estab4[:40], header4 + "\n", "0: :\n"} {
		f.Add([]byte(s), uint16(0), uint16(0), uint8(13))
		f.Add([]byte(s), uint16(8080), uint16(1<<Established|1<<TimeWait), uint8(1))
	}
	f.Fuzz(func(t *testing.T, text []byte, port, states uint16, piece uint8) {
		var filter Filter
		if port != 0 {
			filter.Ports = []uint16{port}
		}
		filter.States = States(states)
		whole, err := parseAll(string(text), filter, 0)
		parts, err2 := parseAll(string(text), filter, int(piece))
		if (err == nil) != (err2 == nil) || !cmp.Equal(whole, parts, cmpConn) {
			t.Fatalf("at once: %v, %v\nin pieces of %d: %v, %v", whole, err, piece, parts, err2)
		}
		for _, c := range whole {
			if port != 0 && c.Local.Port() != port || states != 0 && !filter.States.Has(c.State) ||
				c.Inode == 0 && c.State != TimeWait || c.Local.Addr().Is4In6() || !c.Remote.Addr().IsValid() {
				t.Fatalf("not asked for: %+v", c)
			}
			// What was read must be what a row printed from it gives.
			again, err := parseAll(render(0, c, c.Local.Addr().Is6() || c.Remote.Addr().Is6()), filter, 0)
			if err != nil || len(again) != 1 || again[0] != c {
				t.Fatalf("%+v came back as %+v, %v", c, again, err)
			}
		}
	})
}
