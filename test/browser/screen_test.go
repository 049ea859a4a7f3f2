package browser

import (
	"io"
	"strings"
	"testing"
)

// What a terminal shows is text in the browser, with its colours, and the cursor where it stands.
func TestScreen(t *testing.T) {
	s := NewScreen(10, 2, io.Discard)
	io.WriteString(s, "\x1b[32m<b>\x1b[0m x\x1b[1;31;7my\x1b[0m\x1b[2;3H")
	got := s.HTML()
	for _, want := range []string{
		`<span style="color:#6bc46d;">&lt;b&gt;</span><span style=""> x</span>`,
		`<span style="color:#14181f;background:#f47067;font-weight:bold;">y</span>`,
		"\n<span>  </span><span style=\"color:#14181f;background:#d3d7de;\"> </span>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	io.WriteString(s, "\x1b[?25l")
	if strings.Contains(s.HTML(), "background:#d3d7de") {
		t.Error("a cursor that is hidden is shown")
	}
}

// A recording has whole characters, however they have been read.
func TestCut(t *testing.T) {
	for text, want := range map[string]int{"": 0, "a": 0, "a─": 0, "a\xe2": 1, "a\xe2\x94": 2, "\xf0\x9f\x90": 3, "─\xe2": 1, "\x80\x80\x80\x80": 0} {
		if got := cut([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
