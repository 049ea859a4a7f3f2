package view

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"github.com/brooddaemon/brood/internal/logs"
)

// Safe makes a text safe to stand in a column: the first line of it, escaped as [logs.Escape] does, and with every character escaped
// whose width depends on its neighbours or on the terminal: marks, joiners, variations, parts of flags and of syllables. What
// remains is one or two columns wide, each character for itself.
func Safe(s string) string {
	s = logs.Escape(FirstLine(s))
	if strings.IndexFunc(s, unsteady) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case !unsteady(r):
			b.WriteRune(r)
		case r < 1<<16:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// FirstLine is a text up to its first newline.
func FirstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// unsteady reports whether nobody can say how wide a character is shown.
func unsteady(r rune) bool {
	switch {
	case r < 0x7f:
		return r == '\t'
	case r >= 0x1f1e6 && r <= 0x1f1ff, r >= 0x1f3fb && r <= 0x1f3ff: // flags, colours of skin
		return true
	case r >= 0x1160 && r <= 0x11ff, r >= 0xd7b0 && r <= 0xd7ff: // syllables of Hangul are built of these
		return true
	}
	return !unicode.IsPrint(r) && r != '\u3000' || unicode.IsMark(r)
}

// Width is how many columns a safe text takes; sequences that colour it take none.
func Width(s string) int { return ansi.StringWidth(s) }

// Cut makes a text fit into so many columns; an ellipsis says that something is missing.
func Cut(s string, width int) string { return ansi.Truncate(s, max(width, 0), "…") }

// pad fills a text with spaces.
func pad(s string, width int) string { return s + strings.Repeat(" ", max(width-Width(s), 0)) }

// Age is the time that has passed since then, "-" if there is no such moment.
func Age(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	return Span(max(now.Sub(then), 0))
}

// Span is a time as people want to read it: the longer it is the less of it.
func Span(d time.Duration) string {
	switch abs := d.Abs(); {
	case abs < time.Second:
		return d.Round(time.Millisecond).String()
	case abs < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// Bytes is a size with a unit, of powers of 1024; "-" for 0, which is none.
func Bytes(n uint64) string {
	switch f := float64(n); {
	case n == 0:
		return "-"
	case n < 1<<20:
		return fmt.Sprintf("%.0fK", f/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1fM", f/(1<<20))
	default:
		return fmt.Sprintf("%.1fG", f/(1<<30))
	}
}

// OrDash stands for what is not there.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
