package logs

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func cutLines(t interface{ Fatal(...any) }, r io.Reader, max int) []string {
	var out []string
	if err := Lines(r, max, func(b []byte) { out = append(out, string(b)) }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLines(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"\n", []string{""}},
		{"\n\n", []string{"", ""}},
		{"a", []string{"a"}},
		{"a\n", []string{"a"}},
		{"a\nb", []string{"a", "b"}},
		{"a\r\nb\r\n", []string{"a", "b"}},
		{"\r\n", []string{""}},
		{"\r", []string{""}},
		{"a\rb\n", []string{"a\rb"}},
		{"a\r\r\n", []string{"a\r"}},
		{"12345678\n", []string{"12345678"}},
		{"12345678", []string{"12345678"}},
		{"12345678\r\nx", []string{"12345678", "x"}},
		{"12345678\r", []string{"12345678"}},
		{"123456789\n", []string{"12345678 [cut]"}},
		{"123456789", []string{"12345678 [cut]"}},
		{"12345678\rx\ny", []string{"12345678 [cut]", "y"}},
		{"12345678\r\r\ny", []string{"12345678 [cut]", "y"}},
		{"123456789" + strings.Repeat("x", 1<<20) + "\nb\n", []string{"12345678 [cut]", "b"}},
		{"\x00\x00\n\xff\xfe\n", []string{"\x00\x00", "\xff\xfe"}},
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole":    func(r io.Reader) io.Reader { return r },
			"bytewise": iotest.OneByteReader,
			"with EOF": iotest.DataErrReader,
		} {
			if got := cutLines(t, wrap(strings.NewReader(c.in)), 8); !slices.Equal(got, c.want) {
				t.Errorf("%s: %.40q gives %q, want %q", name, c.in, got, c.want)
			}
		}
	}
}

// Lengths around every buffer that takes part: pages, the read buffer, the limit.
func TestLinesAtLimits(t *testing.T) {
	for _, size := range []int{4096, ReadSize, 2 * ReadSize, MaxLine, MaxLine + ReadSize} {
		for n := size - 2; n <= size+2; n++ {
			for _, end := range []string{"\n", "\r\n"} {
				line := strings.Repeat("k", n)
				want := line
				if n > MaxLine {
					want = line[:MaxLine] + cutMark
				}
				got := cutLines(t, strings.NewReader(line+end+"after"+end), 0)
				if !slices.Equal(got, []string{want, "after"}) {
					t.Errorf("line of %d, end %q: %d lines, first of %d bytes", n, end, len(got), len(got[0]))
				}
			}
		}
	}
}

func TestHugeLine(t *testing.T) {
	const huge = 10 << 20
	r := io.MultiReader(strings.NewReader("before\n"), io.LimitReader(endless{}, huge), strings.NewReader("\nafter\n"))
	got := cutLines(t, r, 0)
	want := []string{"before", strings.Repeat("e", MaxLine) + cutMark, "after"}
	if !slices.Equal(got, want) {
		t.Errorf("%d lines", len(got))
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'e'
	}
	return len(p), nil
}

// A line that is too long is shown when that is known, not when its end comes, which may be never.
func TestLongLineIsDeliveredAtOnce(t *testing.T) {
	r, w := io.Pipe()
	lines := make(chan string)
	ended := make(chan error)
	go func() { ended <- Lines(r, 4, func(b []byte) { lines <- string(b) }) }()
	io.WriteString(w, "123456789")
	if got := <-lines; got != "1234 [cut]" {
		t.Errorf("got %q", got)
	}
	go io.WriteString(w, "more\nend\n")
	if got := <-lines; got != "end" {
		t.Errorf("got %q", got)
	}
	w.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestLinesReadError(t *testing.T) {
	bad := errors.New("bad pipe")
	var got []string
	err := Lines(io.MultiReader(strings.NewReader("a\nhalf"), iotest.ErrReader(bad)), 0, func(b []byte) { got = append(got, string(b)) })
	if !errors.Is(err, bad) || !slices.Equal(got, []string{"a", "half"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// A line in hand costs no more memory than it needs, and a long one is not kept.
func TestLineBufferIsGivenBack(t *testing.T) {
	c := NewCutter(MaxLine, func([]byte) {})
	c.add(bytes.Repeat([]byte("x"), MaxLine))
	c.end()
	if cap(c.Line) != 0 {
		t.Errorf("%d bytes kept", cap(c.Line))
	}
}

// slowLines is what Lines should do, said in another way.
func slowLines(b []byte, max int) []string {
	var out []string
	text, last := string(b), ""
	parts := strings.Split(text, "\n")
	parts, last = parts[:len(parts)-1], parts[len(parts)-1]
	if last != "" {
		parts = append(parts, last)
	}
	for _, line := range parts {
		line = strings.TrimSuffix(line, "\r")
		if len(line) > max {
			line = line[:max] + cutMark
		}
		out = append(out, line)
	}
	return out
}

func TestLinesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		max := rapid.IntRange(1, 20).Draw(t, "max")
		b := rapid.SliceOf(rapid.SampledFrom([]byte("ab\r\n\x00\xff"))).Draw(t, "bytes")
		if got, want := cutLines(t, iotest.HalfReader(bytes.NewReader(b)), max), slowLines(b, max); !slices.Equal(got, want) {
			t.Fatalf("%q at %d: %q, want %q", b, max, got, want)
		}
	})
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\r\nb\n\nlong line\r\r\nhalf"), 5)
	f.Add(bytes.Repeat([]byte("x"), 3*ReadSize), ReadSize)
	f.Fuzz(func(t *testing.T, b []byte, max int) {
		if max <= 0 || max > MaxLine {
			max = MaxLine
		}
		if got, want := cutLines(t, bytes.NewReader(b), max), slowLines(b, max); !slices.Equal(got, want) {
			t.Errorf("%q at %d: %q, want %q", b, max, got, want)
		}
	})
}

func BenchmarkLines(b *testing.B) {
	text := strings.Repeat(strings.Repeat("x", 99)+"\n", 1000)
	b.SetBytes(int64(len(text)))
	n := 0
	for b.Loop() {
		Lines(strings.NewReader(text), 0, func([]byte) { n++ })
	}

}
