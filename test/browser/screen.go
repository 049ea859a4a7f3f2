package browser

import (
	"fmt"
	"html"
	"image/color"
	"io"
	"strings"
	"sync"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
)

// A Screen shows what is written to it as a terminal does.
type Screen struct {
	columns, rows int

	mu       sync.Mutex
	emulator *vt.Emulator
	cursor   bool
}

// NewScreen makes an empty one. What programs ask a terminal about itself is answered to answers.
func NewScreen(columns, rows int, answers io.Writer) *Screen {
	s := &Screen{columns: columns, rows: rows, emulator: vt.NewEmulator(columns, rows), cursor: true}
	s.emulator.SetCallbacks(vt.Callbacks{CursorVisibility: func(visible bool) { s.cursor = visible }})
	go io.Copy(answers, s.emulator) // the emulator waits until an answer is taken
	return s
}

func (s *Screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emulator.Write(b)
}

// String returns the text, a line for each row.
func (s *Screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emulator.String()
}

const (
	ink   = "#d3d7de"
	paper = "#14181f"
)

// inks are the colours that a terminal has by number.
var inks = [16]string{
	"#14181f", "#f47067", "#6bc46d", "#daaa3f", "#6cb6ff", "#dcbdfb", "#56d4dd", "#d3d7de",
	"#768390", "#ff938a", "#8ddb8c", "#eac55f", "#96d0ff", "#eddeff", "#7fe5ec", "#ffffff",
}

// HTML returns the screen as an element.
func (s *Screen) HTML() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.emulator.CursorPosition()
	var b strings.Builder
	fmt.Fprintf(&b, `<pre style="font:14px/17px 'DejaVu Sans Mono',monospace;color:%s;background:%s;margin:0;padding:8px 10px;display:inline-block">`, ink, paper)
	for y := range s.rows {
		last := ""
		b.WriteString("<span>")
		for x := range s.columns {
			c := s.emulator.CellAt(x, y)
			if c == nil || c.Width == 0 { // the second half of a wide one
				continue
			}
			if look := css(c.Style, s.cursor && at.X == x && at.Y == y); look != last {
				fmt.Fprintf(&b, `</span><span style="%s">`, look)
				last = look
			}
			b.WriteString(html.EscapeString(c.Content))
		}
		b.WriteString("</span>\n")
	}
	b.WriteString("</pre>")
	return b.String()
}

// css tells what a cell looks like. The cursor is a cell the other way round.
func css(s uv.Style, cursor bool) string {
	front, back := name(s.Fg, ink), name(s.Bg, paper)
	if (s.Attrs&uv.AttrReverse != 0) != cursor {
		front, back = back, front
	}
	look := ""
	if front != ink {
		look += "color:" + front + ";"
	}
	if back != paper {
		look += "background:" + back + ";"
	}
	if s.Attrs&uv.AttrBold != 0 {
		look += "font-weight:bold;"
	}
	if s.Attrs&uv.AttrFaint != 0 {
		look += "opacity:.6;"
	}
	return look
}

// name returns what CSS calls a colour.
func name(c color.Color, otherwise string) string {
	switch c := c.(type) {
	case nil:
		return otherwise
	case ansi.BasicColor:
		return inks[c%16]
	}
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf("#%02x%02x%02x", r>>8, g>>8, b>>8)
}
