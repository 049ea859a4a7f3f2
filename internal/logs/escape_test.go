package logs

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestEscape(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"plain text, 100 %", "plain text, 100 %"},
		{"tab\there", "tab\there"},
		{`back\slash`, `back\slash`},
		{"two\nlines\r", `two\x0alines\x0d`},
		{"\x1b[2J\x1b]0;title\x07", `\x1b[2J\x1b]0;title\x07`},
		{"\x00nul\x7fdel", `\x00nul\x7fdel`},
		{"next\u0085line\u009bcsi\u0080", `next\u0085line\u009bcsi\u0080`},
		{"\u00a0nbsp stays", "\u00a0nbsp stays"},
		{"bad \xff\xc3(\xe2\x82", `bad \xff\xc3(\xe2\x82`},
		{"raw C1 \x9b2J", `raw C1 \x9b2J`},
		{"overlong \xc0\x8a, surrogate \xed\xa0\x80", `overlong \xc0\x8a, surrogate \xed\xa0\x80`},
		{"over the top \xf4\x90\x80\x80", `over the top \xf4\x90\x80\x80`},
		{"\u202egnp.exe\u202c", `\u202egnp.exe\u202c`},
		{"\u202a\u202b\u202d\u2066\u2067\u2068\u2069", `\u202a\u202b\u202d\u2066\u2067\u2068\u2069`},
		{"\u200e\u200f\u061c", `\u200e\u200f\u061c`},
		{"\u2028\u2029", `\u2028\u2029`},
		{"\u2027\u202f\u2065\u206a\u200d\u061b\u061d", "\u2027\u202f\u2065\u206a\u200d\u061b\u061d"}, // their neighbours
		{"Grüße, привет, 日本語, עברית, العربية, 👩‍💻", "Grüße, привет, 日本語, עברית, العربية, 👩‍💻"},
		{"the real \ufffd stays", "the real \ufffd stays"},
	} {
		if got := Escape(c.in); got != c.want {
			t.Errorf("Escape(%q) = %q, want %q", c.in, got, c.want)
		}
		if got := string(AppendEscape([]byte("dst:"), []byte(c.in))); got != "dst:"+c.want {
			t.Errorf("AppendEscape(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestEscapeAllocatesNothing(t *testing.T) {
	s := "plain text, ünd mehr, with a tab\t" + strings.Repeat("x", 100)
	b, dst := []byte(s), make([]byte, 0, 1000)
	var out string
	if n := testing.AllocsPerRun(100, func() { out = Escape(s) }); n != 0 || out != s {
		t.Errorf("Escape: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { dst = AppendEscape(dst[:0], b) }); n != 0 || string(dst) != s {
		t.Errorf("AppendEscape: %v allocations", n)
	}
}

// checkEscape says the rule in terms of package unicode, which the code does not use.
func checkEscape(t interface{ Fatalf(string, ...any) }, in string) {
	out := Escape(in)
	if out != string(AppendEscape(nil, []byte(in))) {
		t.Fatalf("%q: Escape and AppendEscape differ", in)
	}
	if !utf8.ValidString(out) {
		t.Fatalf("%q: %q is not UTF-8", in, out)
	}
	for _, r := range out {
		if r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.In(r, unicode.Zl, unicode.Zp) {
			t.Fatalf("%q: %q has %U", in, out, r)
		}
	}
	// Whatever is safe stays, in order.
	kept := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.In(r, unicode.Zl, unicode.Zp) {
			return -1
		}
		return r
	}, in)
	rest := out
	for _, r := range kept {
		i := strings.IndexRune(rest, r)
		if i < 0 {
			t.Fatalf("%q: %q has lost %q", in, out, r)
		}
		rest = rest[i+utf8.RuneLen(r):]
	}
	if kept == in && out != in {
		t.Fatalf("%q: changed to %q for nothing", in, out)
	}
}

func TestEscapeEveryRune(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		checkEscape(t, string(r))
	}
}

func TestEscapeProperty(t *testing.T) {
	odd := []string{"a", "\\", "\t", "\n", "\x1b", "\x7f", "\u009b", "\u202e", "\u2028", "\xff", "\xe2\x80", "\xc2", "é", "\u061c", "世"}
	rapid.Check(t, func(t *rapid.T) {
		checkEscape(t, strings.Join(rapid.SliceOf(rapid.SampledFrom(odd)).Draw(t, "pieces"), ""))
		checkEscape(t, string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")))
		checkEscape(t, rapid.String().Draw(t, "string"))
	})
}

func FuzzEscape(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[2J\u202e\xff\u0085")
	f.Fuzz(func(t *testing.T, s string) { checkEscape(t, s) })
}

func BenchmarkEscapePlain(b *testing.B) {
	line, dst := []byte(strings.Repeat("GET /path HTTP/1.1 200 ", 5)), make([]byte, 0, 1000)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		dst = AppendEscape(dst[:0], line)
	}
}

// What is escaped in JSON means the same, and shows nothing but itself.
func TestEscapeJSON(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "{\"a\":\"b\\n\u00e9\"}\n": "{\"a\":\"b\\n\u00e9\"}\n", "\x7f\u0085\u202e\u2028\n": `\u007f\u0085\u202e\u2028` + "\n",
		"a\xffb": `a\ufffdb`, "\ufffd": "\ufffd",
	} {
		if got := string(EscapeJSON([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
