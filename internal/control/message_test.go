package control

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"
)

var kinds = []Kind{Ready, Failed, Gone, Settled, Overtime, Spent, Proven, Alive, Paused, Parting, Refused, Begin, Ping, Drain, Leave, Quit, Evict, Yield, Queues, Revoke, Clear, Find}

var addrPorts = rapid.Custom(func(rt *rapid.T) netip.AddrPort {
	bytes := func(n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(rt, "address") }
	port := rapid.Uint16().Draw(rt, "port")
	switch rapid.IntRange(0, 3).Draw(rt, "family") {
	case 1:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(bytes(4))), port)
	case 2:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(bytes(16))), port)
	case 3: // ::ffff:1.2.3.4 is not 1.2.3.4
		return netip.AddrPortFrom(netip.AddrFrom16(netip.AddrFrom4([4]byte(bytes(4))).As16()), port)
	}
	return netip.AddrPort{}
})

var sameAddr = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestMessageRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := Message{
			Kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), How: rapid.Byte().Draw(rt, "how"),
			Kill: rapid.Bool().Draw(rt, "kill"), Leaving: rapid.Bool().Draw(rt, "leaving"),
			Within: time.Duration(rapid.Uint32().Draw(rt, "within")) * time.Millisecond,
			Serial: rapid.Uint64().Draw(rt, "serial"), Inode: rapid.Uint64().Draw(rt, "inode"),
			Local: addrPorts.Draw(rt, "local"), Foreign: addrPorts.Draw(rt, "foreign"), Proxy: addrPorts.Draw(rt, "proxy"),
			Text: string(rapid.SliceOfN(rapid.Byte(), 0, maxText).Draw(rt, "text")),
		}
		before := []byte("what stood before")
		b := m.Append(bytes.Clone(before))
		if !bytes.HasPrefix(b, before) {
			rt.Fatalf("Append has changed what was there: %q", b[:len(before)])
		}
		b = b[len(before):]
		head := 64
		if m.Proxy.IsValid() {
			head += 20
		}
		if len(b) != head+len(m.Text) {
			rt.Errorf("%d bytes for a text of %d", len(b), len(m.Text))
		}
		got, err := Parse(b)
		if diff := cmp.Diff(m, got, sameAddr); diff != "" || err != nil {
			rt.Errorf("want (-) against got (+), %v:\n%s", err, diff)
		}
	})
}

// What does not fit is left out: the zone, which means something on one host only, and a port without an address.
func TestMessageWithout(t *testing.T) {
	m := Message{
		Kind: Gone, Local: netip.MustParseAddrPort("[fe80::1%eth0]:80"), Foreign: netip.AddrPortFrom(netip.Addr{}, 80),
	}
	got, err := Parse(m.Append(nil))
	if err != nil || got.Local != netip.MustParseAddrPort("[fe80::1]:80") || got.Foreign != (netip.AddrPort{}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestMessageText(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 1 << 20} {
		text := strings.Repeat("x", n)
		b := Message{Kind: Failed, Text: text}.Append(nil)
		m, err := Parse(b)
		if err != nil || m.Text != text[:min(n, 4096)] || len(b) > MaxMessage {
			t.Errorf("a text of %d bytes: %d come back in %d (%v)", n, len(m.Text), len(b), err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := Message{
		Kind: Gone, Kill: true, Leaving: true, Local: netip.MustParseAddrPort("10.0.0.1:80"),
		Foreign: netip.MustParseAddrPort("[2001:db8::1]:4711"), Text: "text",
	}.Append(nil)
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	set := func(off int, v byte) []byte {
		b := bytes.Clone(good)
		b[off] = v
		return b
	}
	refused := map[string][]byte{
		"nothing":            nil,
		"empty":              {},
		"half a head":        good[:63],
		"too long":           append(bytes.Clone(good[:64]), make([]byte, maxText+1)...),
		"kind 0":             set(0, 0),
		"another kind":       set(0, 'Z'),
		"kind 0xff":          set(0, 0xff),
		"another flag":       set(2, 8),
		"all flags":          set(2, 0xff),
		"family 5":           set(24+18, 5),
		"family 0xff":        set(44+18, 0xff),
		"no family":          set(24+18, 0),
		"after the family":   set(24+19, 1),
		"after it, again":    set(44+19, 0xff),
		"long IPv4":          set(24+4, 1),
		"long IPv4, the end": set(24+15, 1),
	}
	refused["reserved"] = set(3, 1)
	refused["no room for the proxy"] = set(2, 4)
	proxied := Message{Kind: Gone, Proxy: netip.MustParseAddrPort("10.0.0.3:81"), Text: "text"}.Append(nil)
	if _, err := Parse(proxied); err != nil {
		t.Fatal(err)
	}
	refused["too long behind the proxy"] = append(bytes.Clone(proxied[:84]), make([]byte, maxText+1)...)
	clear(proxied[64:84])
	refused["no proxy"] = proxied
	portAlone := Message{Kind: Gone}.Append(nil)
	portAlone[24+16] = 80
	refused["a port without an address"] = portAlone
	addressAlone := Message{Kind: Gone}.Append(nil)
	addressAlone[44] = 127
	refused["an address without a family"] = addressAlone
	for name, b := range refused {
		if m, err := Parse(b); !errors.Is(err, ErrMessage) && !errors.Is(err, ErrUnknown) || m != (Message{}) {
			t.Errorf("%s: %+v, %v; want an error alone", name, m, err)
		}
	}
	// Every kind there is, and no other: those may be of a later version.
	known := 0
	for k := range 256 {
		switch _, err := Parse(set(0, byte(k))); {
		case err == nil:
			known++
		case !errors.Is(err, ErrUnknown):
			t.Errorf("kind %#x: %v", k, err)
		}
	}
	if known != len(kinds) {
		t.Errorf("%d kinds are accepted, want %d", known, len(kinds))
	}
}

// A datagram that is too long arrives cut, in a buffer of one byte more than there may be: refused, and the next one is
// a message again.
func TestDatagram(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	w, r := os.NewFile(uintptr(pair[0]), "w"), os.NewFile(uintptr(pair[1]), "r")
	defer w.Close()
	defer r.Close()
	long := append(Message{Kind: Failed, Text: strings.Repeat("x", maxText)}.Append(nil), make([]byte, MaxMessage)...)
	longest := Message{Kind: Failed, Text: strings.Repeat("x", maxText)}
	for _, b := range [][]byte{long, longest.Append(nil), Message{Kind: Ready}.Append(nil)} {
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, MaxMessage+1)
	next := func() (Message, error) {
		n, err := r.Read(buf)
		must(t, err)
		return Parse(buf[:n])
	}
	if m, err := next(); !errors.Is(err, ErrMessage) {
		t.Errorf("a datagram of %d bytes: %+v, %v", len(long), m, err)
	}
	if m, err := next(); m != longest || err != nil {
		t.Errorf("the longest message: %+v, %v", m, err)
	}
	if m, err := next(); m != (Message{Kind: Ready}) || err != nil {
		t.Errorf("the message after it: %+v, %v", m, err)
	}
}

// FuzzParse: what is accepted has one encoding only, so nothing is overlooked in it.
func FuzzParse(f *testing.F) {
	for _, k := range kinds {
		f.Add(Message{Kind: k, Serial: 7, Text: "text"}.Append(nil))
	}
	f.Add(Message{
		Kind: Find, How: 3, Inode: 9, Local: netip.MustParseAddrPort("10.0.0.1:80"),
		Foreign: netip.MustParseAddrPort("[::ffff:10.0.0.2]:4711"),
	}.Append(nil))
	f.Add(Message{Kind: Gone, Foreign: netip.MustParseAddrPort("10.0.0.1:80"), Proxy: netip.MustParseAddrPort("[::1]:1"), Text: "x"}.Append(nil))
	f.Add(make([]byte, 64))
	f.Add(bytes.Repeat([]byte{0xff}, MaxMessage))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) && !errors.Is(err, ErrUnknown) || m != (Message{}) {
				t.Fatalf("%+v, %v; want an error alone", m, err)
			}
			return
		}
		if again := m.Append(nil); !bytes.Equal(b, again) {
			t.Fatalf("% x is %+v, and that is % x", b, m, again)
		}
	})
}
