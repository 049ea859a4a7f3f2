package main

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/logs"
)

// A voice tells the user what happens, beside what the program prints itself. Any goroutine may use it.
type voice struct {
	mu      sync.Mutex
	w       io.Writer
	palette view.Palette
}

// newVoice uses colours on a terminal that has them.
func newVoice(w io.Writer) *voice { return &voice{w: w, palette: view.PaletteFor(w)} }

func (v *voice) say(format string, args ...any)  { v.line(view.None, format, args...) }
func (v *voice) good(format string, args ...any) { v.line(view.Green, format, args...) }
func (v *voice) bad(format string, args ...any)  { v.line(view.Red, format, args...) }

// line prints one line, whatever a daemon has put into its reasons.
func (v *voice) line(colour view.Colour, format string, args ...any) {
	v.print(colour, logs.Escape(view.FirstLine(fmt.Sprintf(format, args...))))
}

// errors prints what the compiler says, line by line.
func (v *voice) errors(head, text string) {
	lines := []string{head}
	for line := range strings.Lines(text) {
		lines = append(lines, logs.Escape(strings.TrimRight(line, "\n")))
	}
	v.print(view.Red, lines...)
}

// print writes all of it at once: the program writes to the same terminal.
func (v *voice) print(colour view.Colour, lines ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fmt.Fprintf(v.w, "brood dev: %s\n", v.palette.Paint(colour, strings.Join(lines, "\n")))
}
