package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"os/user"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parseAll(t interface{ Fatal(...any) }, texts ...string) []Rule {
	var all []Rule
	for _, text := range texts {
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// list makes rules of words.
func list(t interface{ Fatal(...any) }, words string) []Rule {
	return parseAll(t, strings.Fields(words)...)
}

func ip(text string) Peer { return Peer{Addr: netip.MustParseAddr(text)} }

func process(uid uint32, groups ...uint32) Peer {
	return Peer{Unix: &Process{Known: true, UID: uid, Groups: groups}}
}

// unasked fails if somebody wants the names of a host.
func unasked(t *testing.T) func() ([]string, error) {
	return func() ([]string, error) {
		t.Error("names were asked for")
		return nil, nil
	}
}

func TestRuleCovers(t *testing.T) {
	for _, c := range []struct {
		rule, peer string
		want       bool
	}{
		{"10.0.0.0/8", "10.255.255.255", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"10.0.0.0/8", "::ffff:10.1.1.1", true}, // a socket for both families shows it so
		{"10.0.0.1/8", "10.9.9.9", true},        // what is beyond the prefix does not matter
		{"::ffff:10.0.0.0/104", "10.1.1.1", true},
		{"::ffff:10.0.0.0/104", "11.1.1.1", false},
		{"::ffff:10.0.0.0/103", "11.1.1.1", true},
		{"::ffff:10.0.0.0/103", "12.1.1.1", false},
		{"::ffff:10.1.1.1/128", "10.1.1.1", true},
		{"::ffff:10.1.1.1", "10.1.1.1", true},
		{"0.0.0.0/0", "255.255.255.255", true},
		{"0.0.0.0/0", "::ffff:1.2.3.4", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "::1", true},
		{"::/0", "1.2.3.4", false},
		{"::/0", "::ffff:1.2.3.4", false},
		{"10.1.1.1/32", "10.1.1.1", true},
		{"10.1.1.1/32", "10.1.1.0", false},
		{"10.1.1.1", "10.1.1.1", true},
		{"10.1.1.1", "10.1.1.10", false},
		{"fe80::/10", "fe80::1%eth0", true},
		{"fe80::1", "fe80::1%7", true},
		{"2001:DB8::1/128", "2001:db8::1", true},
		{`/10\.1\.1\.1/`, "110.1.1.10", false}, // a part is not the whole
		{`/10\.1\.1\.1/`, "10.1.1.1", true},
		{`/^10\.1\..*$/`, "10.1.2.3", true},
		{`/10\.1\..*/`, "::ffff:10.1.2.3", true},
		{`/1\.1\.1\.1|2\.2\.2\.2/`, "12.2.2.2", false},
		{`/1\.1\.1\.1|2\.2\.2\.2/`, "1.1.1.10", false},
		{`/1\.1\.1\.1|2\.2\.2\.2/`, "2.2.2.2", true},
		{`/1|1\.1\.1\.1/`, "1.1.1.1", true}, // also if a shorter one comes first
		{`/(?U)1.*/`, "1.1.1.1", true},
		{`/(?m)^1$/`, "1.1.1.1", false},
		{`/\Q10.1/`, "10.1.1.1", false},
		{`/fe80::.*/`, "fe80::1%eth0", true},
		{`/.*eth0/`, "fe80::1%eth0", false},
		{"all", "1.2.3.4", true},
		{"ALL", "1.2.3.4", true}, // and not a host of that name
		{"Unix", "1.2.3.4", false},
		{"unix", "1.2.3.4", false},
		{"uid:0", "1.2.3.4", false},
		{"gid:0", "1.2.3.4", false},
	} {
		r := parseAll(t, c.rule)
		refused := New(r, nil).Refuses(ip(c.peer), unasked(t)) != ""
		denied := New(nil, r).Refuses(ip(c.peer), unasked(t)) != ""
		if refused == c.want || denied != c.want {
			t.Errorf("%s on %s: allow refuses %v, deny refuses %v; want it to be about him: %v", c.rule, c.peer, refused, denied, c.want)
		}
	}
}

// A deny that matches refuses; if there is any allow, one has to match; without rules everybody may connect.
func TestRefuses(t *testing.T) {
	const nobodyAllowed = "no allow rule matches"
	for _, c := range []struct {
		allow, deny string
		peer        Peer
		want        string
	}{
		{"", "", ip("1.2.3.4"), ""},
		{"", "", process(7), ""},
		{"", "10.0.0.0/8", ip("1.2.3.4"), ""},
		{"", "10.0.0.0/8", ip("10.2.3.4"), "deny 10.0.0.0/8"},
		{"", "9.0.0.0/8 10.0.0.1/8", ip("10.2.3.4"), "deny 10.0.0.1/8"}, // as it was written
		{"10.0.0.0/8", "", ip("10.2.3.4"), ""},
		{"10.0.0.0/8", "", ip("11.2.3.4"), nobodyAllowed},
		{"10.0.0.0/8", "10.2.0.0/16", ip("10.2.3.4"), "deny 10.2.0.0/16"},
		{"10.0.0.0/8", "10.2.0.0/16", ip("10.3.3.4"), ""},
		{"10.2.3.4", "10.0.0.0/8", ip("10.2.3.4"), "deny 10.0.0.0/8"}, // no exception for what is more exact
		{"all", "all", ip("1.2.3.4"), "deny all"},
		{"", "UNIX", process(7), "deny UNIX"},
		{"127.0.0.0/8 ::1", "", ip("::1"), ""},
		// Peers on Unix sockets.
		{"10.0.0.0/8", "", process(7), nobodyAllowed},
		{"host.example.org", "", process(7), nobodyAllowed},
		{"", "10.0.0.0/8 /.*/ host.example.org", process(7), ""},
		{"10.0.0.0/8 unix", "", process(7), ""},
		{"10.0.0.0/8 all", "", process(7), ""},
		{"uid:7", "", process(7), ""},
		{"uid:7", "", process(8), nobodyAllowed},
		{"uid:7", "", ip("1.2.3.4"), nobodyAllowed},
		{"gid:5", "", process(7, 4, 5), ""},
		{"gid:6", "", process(6, 4, 5), nobodyAllowed},
		{"", "uid:7", process(7), "deny uid:7"},
		{"", "gid:5", process(7, 4, 5), "deny gid:5"},
		{"", "unix", process(7), "deny unix"},
		{"", "all", process(7), "deny all"},
		// Whose they are is not known: who must be kept out is.
		{"uid:7", "", Peer{Unix: &Process{UID: 7}}, nobodyAllowed},
		{"gid:7", "", Peer{Unix: &Process{Groups: []uint32{7}}}, nobodyAllowed},
		{"", "uid:7", Peer{Unix: &Process{}}, "deny uid:7"},
		{"unix", "", Peer{Unix: &Process{}}, ""},
	} {
		s := New(list(t, c.allow), list(t, c.deny))
		if got := s.Refuses(c.peer, unasked(t)); got != c.want {
			t.Errorf("allow %q, deny %q, %v: got %q, want %q", c.allow, c.deny, c.peer, got, c.want)
		}
		if s.Empty() != (c.allow+c.deny == "") {
			t.Errorf("allow %q, deny %q: Empty is %v", c.allow, c.deny, s.Empty())
		}
	}
}

// Names are asked for once, and only if what needs none has not decided.
func TestRefusesByName(t *testing.T) {
	dead := errors.New("no answer")
	for _, c := range []struct {
		allow, deny string
		peer        Peer
		names       []string
		err         error
		asked       int
		want        string
	}{
		{"host.example.org", "", ip("1.2.3.4"), []string{"HOST.example.org."}, nil, 1, ""},
		{"Host.Example.Org.", "", ip("1.2.3.4"), []string{"host.example.org"}, nil, 1, ""},
		{"host.example.org", "", ip("1.2.3.4"), []string{"a.example.org", "host.example.org"}, nil, 1, ""},
		{"host.example.org", "", ip("1.2.3.4"), []string{"xhost.example.org"}, nil, 1, notAllowed},
		{".example.org", "", ip("1.2.3.4"), []string{"a.b.example.org"}, nil, 1, ""},
		{".example.org", "", ip("1.2.3.4"), []string{"example.org"}, nil, 1, notAllowed}, // a domain is what is below it
		{".example.org", "", ip("1.2.3.4"), []string{"badexample.org"}, nil, 1, notAllowed},
		{".example.org", "", ip("1.2.3.4"), []string{"a.example.org.evil.net"}, nil, 1, notAllowed},
		{"localhost", "", ip("127.0.0.1"), []string{"localhost"}, nil, 1, ""},
		{"", ".example.org", ip("1.2.3.4"), []string{"a.example.org"}, nil, 1, "deny .example.org"},
		{"", ".example.org", ip("1.2.3.4"), nil, nil, 1, ""},
		{"", ".example.org .example.net", ip("1.2.3.4"), []string{"example.net"}, nil, 1, ""},
		// What cannot be found out: who is to be kept out is, and nobody is let in for it.
		{"", ".example.org", ip("1.2.3.4"), nil, dead, 1, "deny .example.org"},
		{".example.org", "", ip("1.2.3.4"), nil, dead, 1, notAllowed},
		{".example.org", "", ip("1.2.3.4"), []string{"a.example.org"}, dead, 1, ""},
		{"", ".example.net", ip("1.2.3.4"), []string{"a.example.org"}, dead, 1, "deny .example.net"},
		// Nobody needs to be asked.
		{".example.org 1.0.0.0/8", "", ip("1.2.3.4"), nil, dead, 0, ""},
		{".example.org", "a.example.org 1.2.3.4", ip("1.2.3.4"), nil, dead, 0, "deny 1.2.3.4"},
		{".example.org", ".example.net", process(7), nil, dead, 0, notAllowed},
		{"", ".example.net", process(7), nil, dead, 0, ""},
	} {
		s := New(list(t, c.allow), list(t, c.deny))
		asked := 0
		got := s.Refuses(c.peer, func() ([]string, error) { asked++; return c.names, c.err })
		if got != c.want || asked != c.asked {
			t.Errorf("allow %q, deny %q, %v of %q (%v): got %q and asked %d times, want %q, %d", c.allow, c.deny, c.peer, c.names, c.err,
				got, asked, c.want, c.asked)
		}
		if !s.Named() {
			t.Errorf("allow %q, deny %q are not named", c.allow, c.deny)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "want a prefix"},
		{"010.0.0.1", "leading zero"}, // CVE-2021-29424
		{"10.0.0.0/33", "out of range"},
		{"10.0.0.010/8", "leading zero"},
		{"10.0.0.0/08", "bad bits"},
		{"10.0.0/8", "too short"},
		{"10.1.1", "too short"},
		{"10", "unable to parse IP"},
		{"10.0.0.256", ">255"},
		{"1.2.3.4:80", ":"},
		{"fe80::1%eth0", "want fe80::1"},
		{"fe80::1%eth0/64", "zone"},
		{"::ffff:10.0.0.0/95", "want 0.0.0.0/0"},
		{"/", "between two slashes"},
		{"//", "between two slashes"},
		{"/10", "between two slashes"},
		{"/(/", "missing"},
		{"/a)|(b/", "unexpected )"},
		{"*.example.org", "want .example.org for"},
		{"10.0.0.*", "want a prefix, such as 10.0.0.0/8"},
		{"bücher.example", "xn--"},
		{"-a.example.org", "neither"},
		{"a..b", "neither"},
		{".", "neither"},
		{" 10.0.0.1", "unexpected character"},
		{"a b", "neither"},
		{"uid:", "no name or number"},
		{"uid:-1", "-1"},
		{"uid:4294967295", "no name or number"},
		{"uid:4294967296", "no name or number"},
		{"uid:no-such-user", "no-such-user"},
		{"gid:no-such-group", "no-such-group"},
		{strings.Repeat("a.", 127) + "a", "neither"},
	} {
		_, err := Parse(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), fmt.Sprintf("rule %q: ", c.text)) {
			t.Errorf("%q: got %v, want the rule and %q", c.text, err, c.want)
		}
	}
}

func TestParseNamesOfUsers(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Skip(err)
	}
	for text, want := range map[string]string{"uid:" + me.Username: me.Uid, "gid:" + group.Name: me.Gid, "uid:" + me.Uid: me.Uid} {
		if r, err := Parse(text); err != nil || fmt.Sprint(r.id) != want || r.String() != text {
			t.Errorf("%s: %d, %v, want %s", text, r.id, err, want)
		}
	}
}

func TestPeerString(t *testing.T) {
	for want, p := range map[string]Peer{"10.1.1.1": ip("::ffff:10.1.1.1"), "unix uid 7": process(7), "unix": {Unix: &Process{}}} {
		if p.String() != want {
			t.Errorf("got %s, want %s", p, want)
		}
	}
}

// bits is an address as a number, bit by bit, and of which family: how prefixes are compared without package netip.
func bits(a netip.Addr) string {
	var b strings.Builder
	for _, c := range a.AsSlice() {
		fmt.Fprintf(&b, "%08b", c)
	}
	return b.String()
}

// Random lists against the order of the decision, written out, and against prefixes compared bit by bit.
func TestRefusesLikeOracle(t *testing.T) {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "v4") {
			// Few values, so that rules meet peers.
			return netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 1).Draw(t, "b")), 0, byte(rapid.IntRange(0, 3).Draw(t, "d"))})
		}
		return netip.AddrFrom16([16]byte{0xfd, 15: byte(rapid.IntRange(0, 3).Draw(t, "d"))})
	})
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := addr.Draw(t, "addr")
		from := rapid.SampledFrom([]int{0, a.BitLen() / 2, a.BitLen() - 3}).Draw(t, "from") // the bits that differ are the last ones
		return netip.PrefixFrom(a, rapid.IntRange(from, a.BitLen()).Draw(t, "bits"))
	})
	rapid.Check(t, func(t *rapid.T) {
		allow, deny := rapid.SliceOfN(prefix, 0, 4).Draw(t, "allow"), rapid.SliceOfN(prefix, 0, 4).Draw(t, "deny")
		peer := addr.Draw(t, "peer")
		in := func(all []netip.Prefix) bool {
			return slices.ContainsFunc(all, func(p netip.Prefix) bool {
				a, b := bits(p.Addr()), bits(peer)
				return len(a) == len(b) && a[:p.Bits()] == b[:p.Bits()]
			})
		}
		want := !in(deny) && (len(allow) == 0 || in(allow))
		// The same in the ways in which it may be written, and in which the peer may be seen.
		rules := func(all []netip.Prefix) []Rule {
			var out []Rule
			for _, p := range all {
				text := p.String()
				switch {
				case p.Bits() == p.Addr().BitLen() && rapid.Bool().Draw(t, "exact"):
					text = p.Addr().String()
				case p.Addr().Is4() && rapid.Bool().Draw(t, "mapped"):
					text = fmt.Sprintf("::ffff:%s/%d", p.Addr(), p.Bits()+96)
				}
				out = append(out, parseAll(t, text)...)
			}
			return out
		}
		seen := peer
		if peer.Is4() && rapid.Bool().Draw(t, "seen mapped") {
			seen = netip.AddrFrom16(peer.As16())
		} else if peer.Is6() && rapid.Bool().Draw(t, "zoned") {
			seen = peer.WithZone("eth0")
		}
		got := New(rules(allow), rules(deny)).Refuses(Peer{Addr: seen}, func() ([]string, error) { panic("names were asked for") })
		if (got == "") != want {
			t.Fatalf("%v: got %q, want him to be let in: %v", seen, got, want)
		}
	})
}

// Whatever is parsed means the same when it is written again, says no more of a peer than yes or no, and never panics.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"10.0.0.0/8", "::1", "/10\\.1\\..*/", "host.example.org", ".example.org", "uid:1000", "gid:0", "unix", "all",
		"010.0.0.1", "::ffff:10.0.0.0/104", "/a)|(b/", "/\\Q/", "fe80::1%eth0", "a..b", "\x00", "uid:", "/(?i)FE80::1/"} {
		f.Add(seed)
	}
	peers := []Peer{ip("10.1.1.1"), ip("fe80::1"), process(1000, 0)}
	f.Fuzz(func(t *testing.T, text string) {
		if id, ok := strings.CutPrefix(text, "uid:"); ok && !numeric(id) {
			t.Skip() // asks the system's tables
		}
		if id, ok := strings.CutPrefix(text, "gid:"); ok && !numeric(id) {
			t.Skip()
		}
		r, err := Parse(text)
		if err != nil {
			if r != (Rule{}) || !strings.Contains(err.Error(), fmt.Sprintf("%q", text)) {
				t.Errorf("%q: %+v, %v", text, r, err)
			}
			return
		}
		again, err := Parse(r.String())
		if err != nil {
			t.Fatalf("%q is a rule, and then: %v", text, err)
		}
		names := func() ([]string, error) { return []string{"host.example.org."}, nil }
		for _, p := range peers {
			denied := New(nil, []Rule{r}).Refuses(p, names)
			if (denied != "") == (New([]Rule{r}, nil).Refuses(p, names) != "") {
				t.Errorf("%q: allow and deny say the same of %v", text, p)
			}
			if denied != New(nil, []Rule{again}).Refuses(p, names) {
				t.Errorf("%q means something else when it is read again", text)
			}
		}
	})
}
