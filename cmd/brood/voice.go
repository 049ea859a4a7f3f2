package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/logs"
)

// A voice tells the user what happens, beside what the program prints itself. Any goroutine may use it.
type voice struct {
	mu     sync.Mutex
	w      io.Writer
	colour bool
}

const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

// newVoice uses colours on a terminal, unless NO_COLOR (no-color.org) or a terminal without them forbids it.
func newVoice(w io.Writer) *voice {
	v := &voice{w: w}
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		v.colour = err == nil
	}
	return v
}

func (v *voice) say(format string, args ...any)  { v.line("", format, args...) }
func (v *voice) good(format string, args ...any) { v.line(green, format, args...) }
func (v *voice) bad(format string, args ...any)  { v.line(red, format, args...) }

// line prints one line, whatever a daemon has put into its reasons.
func (v *voice) line(colour, format string, args ...any) {
	v.print(colour, logs.Escape(firstLine(fmt.Sprintf(format, args...))))
}

// errors prints what the compiler says, line by line.
func (v *voice) errors(head, text string) {
	lines := []string{head}
	for line := range strings.Lines(text) {
		lines = append(lines, logs.Escape(strings.TrimRight(line, "\n")))
	}
	v.print(red, lines...)
}

// print writes all of it at once: the program writes to the same terminal.
func (v *voice) print(colour string, lines ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	text := strings.Join(lines, "\n")
	if v.colour && colour != "" {
		text = colour + text + plain
	}
	fmt.Fprintf(v.w, "brood dev: %s\n", text)
}
