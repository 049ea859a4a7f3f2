package view

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/scoreboard"
)

// A Colour is a sequence that begins it; empty: none.
type Colour string

// The colours, of which every terminal that has any has these.
const (
	None   Colour = ""
	Red    Colour = "\x1b[31m"
	Green  Colour = "\x1b[32m"
	Yellow Colour = "\x1b[33m"
	Cyan   Colour = "\x1b[36m"
	Bold   Colour = "\x1b[1m"

	plain = "\x1b[0m"
)

// A Palette colours text, or does not.
type Palette bool

// Paint colours a text.
func (p Palette) Paint(c Colour, s string) string {
	if !p || c == None || s == "" {
		return s
	}
	return string(c) + s + plain
}

// PaletteFor uses colours on a terminal, unless NO_COLOR (no-color.org) or a terminal without them forbids it.
func PaletteFor(w io.Writer) Palette {
	_, terminal := Terminal(w)
	return Palette(terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// Terminal reports whether w is a terminal, and how many columns it has; 0: it does not say.
func Terminal(w io.Writer) (columns int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return 0, false
	}
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
		columns = int(size.Col)
	}
	return columns, true
}

// colourOf is what a state looks like: red is what is about to end, green what works, idle is plain.
func colourOf(c *Child) Colour {
	switch {
	case c.Torn:
		return Red
	case c.State == scoreboard.Idle:
		return None
	case c.State == scoreboard.Cancelling:
		return Red
	case c.State == scoreboard.Draining || c.State == scoreboard.Paused:
		return Yellow
	case c.State == scoreboard.Starting:
		return Cyan
	case c.State.Busy():
		return Green
	}
	return Red
}
