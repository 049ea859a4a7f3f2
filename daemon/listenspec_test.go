package daemon

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseListen(t *testing.T) {
	for entry, want := range map[string]listenSpec{
		":80":                      {Addresses: []address{{"tcp", ":80"}}},
		":http":                    {Addresses: []address{{"tcp", ":http"}}},
		"127.0.0.1:0,127.0.0.1:0":  {Addresses: []address{{"tcp", "127.0.0.1:0"}, {"tcp", "127.0.0.1:0"}}},
		"[fe80::1%eth0]:80":        {Addresses: []address{{"tcp", "[fe80::1%eth0]:80"}}},
		"a-b.example:ftp-data":     {Addresses: []address{{"tcp", "a-b.example:ftp-data"}}},
		"unix:x":                   {Addresses: []address{{"unix", "x"}}},
		"/run/a=b":                 {Addresses: []address{{"unix", "/run/a=b"}}},
		`/run/a\,b\\c`:             {Addresses: []address{{"unix", `/run/a,b\c`}}},
		"unix:/run/name=x":         {Addresses: []address{{"unix", "/run/name=x"}}},
		"fd:web":                   {Addresses: []address{{"fd", "web"}}},
		"fd:3,name=x":              {Addresses: []address{{"fd", "3"}}, Name: "x"},
		":80,tcp4":                 {Addresses: []address{{"tcp4", ":80"}}},
		"tcp6,localhost:80,[::]:1": {Addresses: []address{{"tcp6", "localhost:80"}, {"tcp6", "[::]:1"}}},
		"127.0.0.1:80,[::1]:80,name=web,backlog=512": {
			Addresses: []address{{"tcp", "127.0.0.1:80"}, {"tcp", "[::1]:80"}}, Name: "web", Backlog: 512,
		},
		"unix:/run/x.sock,mode=0660,owner=www-data:www-data": {
			Addresses: []address{{"unix", "/run/x.sock"}}, Mode: 0o660, Owner: "www-data", Group: "www-data",
		},
		"/run/x,mode=600,owner=:7,backlog=0": {Addresses: []address{{"unix", "/run/x"}}, Mode: 0o600, Group: "7"},
		"0.0.0.0:8443,name=api,cert=/etc/c.pem,key=/etc/k=.pem": {
			Addresses: []address{{"tcp", "0.0.0.0:8443"}}, Name: "api", Cert: "/etc/c.pem", Key: "/etc/k=.pem",
		},
		":80,proxy":            {Addresses: []address{{"tcp", ":80"}}, Proxy: "any"},
		":80,proxy=v1":         {Addresses: []address{{"tcp", ":80"}}, Proxy: "v1"},
		"/x,:80,fd:a,proxy=v2": {Addresses: []address{{"unix", "/x"}, {"tcp", ":80"}, {"fd", "a"}}, Proxy: "v2"},
	} {
		got, err := parseListen(entry)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%q: %v\n%s", entry, err, d)
		}
	}
}

// Whoever has made a mistake is told in which entry, in which item of it, and what to write.
func TestParseListenErrors(t *testing.T) {
	for _, c := range []struct{ entry, item, want string }{
		{"", "", "is empty: want host:port"},
		{":80,", "", "take away the comma"},
		{":80, name=web", " name=web", "blanks"},
		{":80\n", "", "control character at byte 3"},
		{`/a\b`, "", "backslash at byte 2"},
		{`/a\`, "", "backslash at byte 2"},
		{"80", "80", "want :80 for all addresses of this host, or host:80"},
		{"localhost", "localhost", "neither an address"},
		{"127.0.0.1", "127.0.0.1", "no port: want 127.0.0.1:port"},
		{"web", "web", "name=, backlog="},
		{":80,prox", "prox", "is proxy meant?"},
		{":80,tcp", "tcp", "is tcp4 meant?"},
		{":80,backlogg=5", "backlogg=5", "is backlog=VALUE meant?"},
		{":80,Name=web", "Name=web", "is name=VALUE meant?"},
		{":80,backlog", "backlog", "is backlog=VALUE meant?"},
		{":80,proxi=v1", "proxi=v1", "is proxy=VALUE meant?"},
		{":80,tcp4=1", "tcp4=1", "is tcp4 meant?"},
		{"/run/a,b", "b", `a comma in a path is written \,`},
		{":80,name=", "name=", "nothing stands behind name="},
		{":80,name=a/b", "name=a/b", "letters, digits"},
		{":80,name=..", "name=..", "a letter or a digit in it"},
		{":80,name=" + strings.Repeat("x", 65), "", "64 at most"},
		{":80,name=a,name=b", "name=b", "name is given twice"},
		{":80,proxy,proxy=v1", "proxy=v1", "proxy is given twice"},
		{":80,proxy=v3", "proxy=v3", "proxy=v1, proxy=v2"},
		{":80,backlog=-1", "backlog=-1", "number of clients"},
		{":80,backlog=2147483648", "", "number of clients"},
		{"/x,mode=0668", "mode=0668", "octal number"},
		{"/x,mode=0", "mode=0", "octal number"},
		{"/x,mode=01777", "mode=01777", "octal number"},
		{"/x,owner=a:", "owner=a:", "USER:GROUP"},
		{"/x,owner=a:b:c", "owner=a:b:c", "USER:GROUP"},
		{":80,mode=0660", "", "mode and owner are for the paths"},
		{":80,owner=www", "", "mode and owner are for the paths"},
		{":80,cert=/c", "", "cert and key, both or neither"},
		{":80,key=/k", "", "cert and key, both or neither"},
		{":80,tcp4,tcp6", "", "leave both away"},
		{"/x,tcp4", "", "tcp4 is for host:port"},
		{"[::1]:80,tcp4", "", "tcp4 is not for [::1]:80"},
		{":1,0.0.0.0:80,tcp6", "", "tcp6 is not for 0.0.0.0:80"},
		{"name=web", "", "has no address"},
		{":80,:80", ":80", "there twice"},
		{"unix:", "unix:", "want unix:/path"},
		{"unix:@x", "unix:@x", "want a path"},
		{"unix:/" + strings.Repeat("x", 107), "", "has 108 bytes, and that of a Unix socket 107"},
		{"fd:", "fd:", "want the name or the number"},
		{"fd:a:b", "fd:a:b", "without a colon"},
		{"fd:brood-x", "fd:brood-x", "another FileDescriptorName="},
		{"::1", "::1", "no port: want [::1]:port"},
		{"::1:80", "::1:80", "no port"}, // an address, and a mistake
		{"a:b:80", "a:b:80", "in brackets"},
		{"[::1", "[::1", "in brackets"},
		{"/x,[", "[", "want host:port"},
		{"host:", "host:", "want a port"},
		{":65536", ":65536", "want a port"},
		{":-1", ":-1", "want a port"},
		{":a b", ":a b", `"a b" is neither a port nor`},
		{"*:80", "*:80", "want :80 for all"},
		{"a@b:80", "a@b:80", `"a@b" is neither an IP address nor`},
		{"http://x", "", "neither a port"},
	} {
		got, err := parseListen(c.entry)
		if err == nil {
			t.Errorf("%q is %+v", c.entry, got)
			continue
		}
		begin := fmt.Sprintf("listen %q: ", c.entry)
		if c.item != "" {
			begin += fmt.Sprintf("item %q: ", c.item)
		}
		if !strings.HasPrefix(err.Error(), begin) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want %q at its begin, and %q", err, begin, c.want)
		}
	}
}

// What two entries say must not be in each other's way.
func TestParseListens(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{":80,name=a", ":81,name=b", ""},
		{"127.0.0.1:0", "127.0.0.1:0", ""},
		{":80,name=a", ":81,name=a", "another entry is called a, too"},
		{"fd:a", ":80,name=a", "another entry is called a, too"},
		{":80,:81", "127.0.0.1:1,:81,name=b", ":81 stands in another entry, too: \":80,:81\""},
		{":80", "nonsense", "nonsense"},
	} {
		_, err := parseListens([]string{c.a, c.b})
		if (c.want == "") != (err == nil) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%q and %q: %v, want %q", c.a, c.b, err, c.want)
		}
	}
}

func TestListenNames(t *testing.T) {
	for entry, want := range map[string]string{
		":80": ":80", "/run/x": "/run/x", "unix:x": "unix:x", "fd:web": "web", "fd:3": "3",
		"fd:web,name=a": "a a", ":1,127.0.0.1:2": ":1 127.0.0.1:2", ":1,/x,name=b": "b b",
	} {
		s, err := parseListen(entry)
		var names []string
		for _, a := range s.Addresses {
			names = append(names, s.nameOf(a))
		}
		if got := strings.Join(names, " "); err != nil || got != want && got+" "+got != want {
			t.Errorf("%q: %q, want %q (%v)", entry, got, want, err)
		}
	}
}

// Whatever an entry can say comes out of its text as it went in, and out of the papers of a child.
func TestListenRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawSpec(rt)
		got, err := parseListen(s.String())
		if d := cmp.Diff(s, got); d != "" || err != nil {
			rt.Fatalf("%s: %v\n%s", s, err, d)
		}
		var read listenSpec
		text, err := json.Marshal(s)
		if err == nil {
			err = json.Unmarshal(text, &read)
		}
		if d := cmp.Diff(s, read); d != "" || err != nil {
			rt.Fatalf("%s: %v\n%s", text, err, d)
		}
	})
}

func drawSpec(rt *rapid.T) listenSpec {
	maybe := func(g *rapid.Generator[string], label string) string {
		if !rapid.Bool().Draw(rt, "has "+label) {
			return ""
		}
		return g.Draw(rt, label)
	}
	path := rapid.StringMatching(`/[a-zA-Z0-9,\\=:@äß][a-z ,\\=:@.ä]{0,20}[a-z,\\=]`)
	tcp := rapid.SampledFrom([]string{"tcp", "tcp4", "tcp6"}).Draw(rt, "family")
	var s listenSpec
	seen := map[address]bool{}
	add := func(a address) {
		if !seen[a] {
			seen[a] = true
			s.Addresses = append(s.Addresses, a)
		}
	}
	add(address{tcp, rapid.StringMatching(`([a-z][a-z0-9.-]{0,9})?:([1-9][0-9]{0,3}|[a-z][a-z-]{0,9})`).Filter(isHost).Draw(rt, "tcp")})
	for range rapid.IntRange(0, 3).Draw(rt, "more") {
		switch rapid.IntRange(0, 3).Draw(rt, "kind") {
		case 0:
			add(address{"unix", path.Draw(rt, "path")})
		case 1:
			add(address{"unix", path.Draw(rt, "path")[1:]})
		case 2:
			add(address{"fd", rapid.StringMatching(`[a-z0-9,\\=.]{0,8}[a-z0-9]`).Draw(rt, "fd")})
		case 3:
			add(address{tcp, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[fe80::1%lo]:1", "tcp": "[::]:80"}[tcp]})
		}
	}
	s.Addresses = dropOdd(s.Addresses)
	s.Name = maybe(rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}`), "name")
	s.Backlog = rapid.IntRange(0, maxBacklog).Draw(rt, "backlog")
	for _, a := range s.Addresses {
		if a.Network == "unix" {
			s.Mode = fs.FileMode(rapid.IntRange(0, 0o777).Draw(rt, "mode"))
			s.Owner = maybe(rapid.StringMatching(`[a-z0-9_,\\=.-]{0,7}[a-z]`), "owner")
			s.Group = maybe(rapid.StringMatching(`[a-z0-9_,\\=.-]{0,7}[a-z]`), "group")
			break
		}
	}
	if rapid.Bool().Draw(rt, "tls") {
		s.Cert, s.Key = path.Draw(rt, "cert"), path.Draw(rt, "key")
	}
	s.Proxy = maybe(rapid.SampledFrom([]string{"v1", "v2", "any"}), "proxy")
	return s
}

// isHost reports whether an address is not one of another kind.
func isHost(text string) bool {
	return !strings.HasPrefix(text, "fd:") && !strings.HasPrefix(text, "unix:")
}

// dropOdd leaves away what no entry can say: the path of an abstract socket.
func dropOdd(addresses []address) []address {
	var out []address
	for _, a := range addresses {
		if a.check() == nil {
			out = append(out, a)
		}
	}
	return out
}

// Nothing that somebody writes makes it panic, and what it takes it writes so that it takes it again.
func FuzzParseListen(f *testing.F) {
	for _, seed := range []string{
		":80", "127.0.0.1:80,[::1]:80,name=web,backlog=512", "unix:/run/x.sock,mode=0660,owner=www-data:www-data", `/a\,b\\`,
		"fd:web,proxy", "[fe80::1%eth0]:0,tcp6,cert=/c,key=/k", "unix:@", ":80,,", `\`, "=,:=", "a:b:c", "tcp4,:x", "unix:fd:a=b", "unix: x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		s, err := parseListen(entry)
		if err != nil {
			if !strings.HasPrefix(err.Error(), fmt.Sprintf("listen %q: ", entry)) {
				t.Errorf("%q: %v", entry, err)
			}
			return
		}
		again, err := parseListen(s.String())
		if d := cmp.Diff(s, again); d != "" || err != nil {
			t.Errorf("%q, written as %q: %v\n%s", entry, s, err, d)
		}
	})
}
