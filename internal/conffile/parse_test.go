package conffile

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []Entry
		err        string // part of the message
	}{
		{"nothing", "", nil, ""},
		{"empty lines and comments", "\n  \t\n# a comment\n  # another\n#\n", nil, ""},
		{"a line", "prefork 8\n", []Entry{{1, "prefork", "8"}}, ""},
		{"no end of line", "\nprefork 8", []Entry{{2, "prefork", "8"}}, ""},
		{"tabs and blanks", "\t prefork \t 8 \t\n", []Entry{{1, "prefork", "8"}}, ""},
		{"repeated", "listen :1\nlisten :2\n", []Entry{{1, "listen", ":1"}, {2, "listen", ":2"}}, ""},
		{"blanks inside", "dir /a  b\n", []Entry{{1, "dir", "/a  b"}}, ""},
		{"a comment behind", "prefork 8 # as many\nprefork 9\t#x\n", []Entry{{1, "prefork", "8"}, {2, "prefork", "9"}}, ""},
		{"no comment", "dir /a#b\n", []Entry{{1, "dir", "/a#b"}}, ""},
		{"quoted", `dir " /a # b\t" # not more` + "\n", []Entry{{1, "dir", " /a # b\t"}}, ""},
		{"quoted bytes", `dir "\xff"`, []Entry{{1, "dir", "\xff"}}, ""},
		{"empty value", `dir ""`, []Entry{{1, "dir", ""}}, ""},
		{"quotes inside", `environ A="b c"`, []Entry{{1, "environ", `A="b c"`}}, ""},
		{"a sign of equality inside", "environ A=b = c\n", []Entry{{1, "environ", "A=b = c"}}, ""},
		{"byte order mark", bom + "prefork 8\n", []Entry{{1, "prefork", "8"}}, ""},
		{"Windows", "prefork 8\r\n\r\nlisten :1\r\n", []Entry{{1, "prefork", "8"}, {3, "listen", ":1"}}, ""},
		{"other spellings", "Max-Jobs_2.x 1\n", []Entry{{1, "Max-Jobs_2.x", "1"}}, ""},
		{"longest line", "dir " + strings.Repeat("x", MaxLine-4) + "\n", []Entry{{1, "dir", strings.Repeat("x", MaxLine-4)}}, ""},

		{"no value", "a 1\nprefork\n", nil, `f:2: key "prefork": no value; "" is an empty one`},
		{"no value but a comment", "prefork # 8\n", nil, `f:1: key "prefork": no value`},
		{"sign of equality", "prefork=8\n", nil, `f:1: key "prefork": between key and value stands a blank and no "="`},
		{"sign of equality between blanks", "prefork = 8\n", nil, `f:1: key "prefork": between key and value`},
		{"a flag", "-prefork 8\n", nil, `f:1: "-prefork" is no key`},
		{"a section", "[pool]\n", nil, `f:1: "[pool]" is no key: want KEY VALUE`},
		{"strange key", "größe 8\n", nil, `f:1: "größe" is no key`},
		{"only a sign", "=8\n", nil, `f:1: "=8" is no key`},
		{"long key", strings.Repeat("x", maxKey+1) + " 1\n", nil, "f:1: key \"xxxxxxxxxxxxxxxx\"...: longer"},
		{"open quotes", "dir \"/a\n", nil, `f:1: key "dir": a quotation mark is missing`},
		{"no escape of Go's", `dir "\q"`, nil, `f:1: key "dir": a quotation mark is missing, or an escape`},
		{"behind quotes", `dir "a"b`, nil, `f:1: key "dir": after the value in quotes stands "b"`},
		{"word behind quotes", `dir "a" b`, nil, `stands " b"`},
		{"no blank before the comment", `dir "a"#b`, nil, `stands "#b"`},
		{"NUL", "prefork 8\x00\n", nil, "f:1: control character U+0000"},
		{"NUL in quotes", `dir "\x00"`, nil, `f:1: key "dir": the value has a NUL`},
		{"escape", "\n\x1b[31m\n", nil, "f:2: control character U+001B"},
		{"carriage return", "a 1\rb 2\n", nil, "f:1: control character U+000D"},
		{"C1", "a \u009b\n", nil, "f:1: control character U+009B"},
		{"control character in a comment", "# \x07\n", nil, "f:1: control character U+0007"},
		{"not UTF-8", "dir /\xff\n", nil, "f:1: not UTF-8"},
		{"UTF-16", "\xff\xfep\x00", nil, "f:1: not UTF-8"},
		{"second byte order mark", bom + bom + "prefork 8\n", nil, "is no key"},
		{"long line", "a 1\ndir " + strings.Repeat("x", MaxLine) + "\n", nil, "f:2: 65540 bytes, more than the 65536"},
		{"large file", strings.Repeat("#\n", MaxSize/2) + "#", nil, "f: 1048577 bytes, more than the 1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse("f", []byte(c.text))
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			var at *Error
			switch {
			case c.err == "" && err != nil, c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want %q", err, c.err)
			case err != nil && !errors.As(err, &at):
				t.Errorf("error of type %T", err)
			}
		})
	}
}

// What Quote writes Parse reads, and what needs no quotes has none.
func TestQuote(t *testing.T) {
	for value, want := range map[string]string{
		"8": "8", "/a b": "/a b", ":1": ":1", "a#b": "a#b", `A="b"`: `A="b"`, "größe": "größe",
		"": `""`, " a": `" a"`, "a\t": `"a\t"`, "a #b": `"a #b"`, "#": `"#"`, `"a"`: `"\"a\""`, "a\nb": `"a\nb"`, "= 8": `"= 8"`, "\xff": `"\xff"`, "a\u00a0": `"a\u00a0"`,
	} {
		got := Quote(value)
		if got != want {
			t.Errorf("%q is written as %s, want %s", value, got, want)
		}
		if e, err := Parse("f", []byte("key "+got)); err != nil || len(e) != 1 || e[0].Value != value {
			t.Errorf("%s is read as %v, %v", got, e, err)
		}
	}
}

// Whatever a file holds: it has entries or an error, what it says can be written and read again, and nothing of it is a surprise
// to whoever prints it.
func FuzzParse(f *testing.F) {
	f.Add([]byte("prefork 8 # x\r\n\tlisten \":1\" #\n"))
	f.Add([]byte(bom + "a \"\\\"\\x00\" #\nb = c\n=\n- 1"))
	f.Add([]byte("a\x00 b\n\xff\n# \u202e\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := Parse("f", text)
		if err != nil {
			if all != nil || !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("%v, %v", all, err)
			}
			return
		}
		var again strings.Builder
		last := 0
		for _, e := range all {
			if e.Line <= last || e.Key == "" || strings.Contains(e.Value, "\x00") {
				t.Fatalf("%+v after line %d", e, last)
			}
			last = e.Line
			again.WriteString(e.Key + " " + Quote(e.Value) + " # a comment\n")
		}
		back, err := Parse("f", []byte(again.String()))
		if err != nil || len(back) != len(all) {
			t.Fatalf("%v is written as %q, which is read as %v, %v", all, again.String(), back, err)
		}
		for i, e := range back {
			if e.Key != all[i].Key || e.Value != all[i].Value {
				t.Fatalf("%+v has become %+v", all[i], e)
			}
		}
	})
}

func TestNearest(t *testing.T) {
	words := []string{"idle_timeout", "idle_every", "min_spare", "max_spare", "user", "dir", "pool", "key"}
	for word, want := range map[string]string{
		"idle_timeot": "idle_timeout", "idletimeout": "idle_timeout", "timeout": "", "idle_evry": "idle_every", "mx_spare": "max_spare",
		"usr": "user", "poool": "pool", "d": "", "": "", "something_else_entirely": "", "Dir": "dir", "DIR": "dir", "web": "",
	} {
		if got := Nearest(word, words); got != want {
			t.Errorf("%q is like %q, want %q", word, got, want)
		}
	}
}
