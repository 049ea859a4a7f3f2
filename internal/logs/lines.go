package logs

import (
	"bytes"
	"fmt"
	"io"
)

// MaxLine is the usual limit for [Lines]: 64 KiB, without the newline.
const MaxLine = 64 << 10

// cutMark stands at the end of a line that was too long.
const cutMark = " [cut]"

// ReadSize is the read buffer of one pipe. A parent has several pipes for each child, so it is small; what a full line needs
// beyond it is taken only when such a line comes, and given back.
const ReadSize = 8 << 10

var cr = []byte{'\r'}

// Lines cuts the bytes of r into lines and gives each to emit, until the end of r.
//
// A line has at most max bytes (0 or less means [MaxLine]), newline and a carriage return before it not counted or handed
// on. A longer one is cut there and marked with " [cut]", at once, and the rest up to the next newline is dropped. An empty
// line is a line. What stands after the last newline is delivered at the end of r. The bytes are as they came; see [Escape].
//
// emit is called on the caller's goroutine, one line at a time; the slice is valid during the call only. While emit blocks
// nothing is read, and the writer at the other end of a full pipe has to wait: so emit should not block for long.
//
// It returns nil at io.EOF and no error for any line; another read error is wrapped, after the last line has been delivered.
func Lines(r io.Reader, max int, emit func(line []byte)) error {
	c := NewCutter(max, emit)
	buf := make([]byte, ReadSize)
	for empty := 0; empty < 100; empty++ {
		n, err := r.Read(buf)
		if n > 0 {
			empty = 0
			c.Feed(buf[:n])
		}
		if err != nil {
			c.End()
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("read lines: %w", err)
		}
	}
	return fmt.Errorf("read lines: %w", io.ErrNoProgress)
}

// Cutter cuts bytes into lines by the rules of [Lines], for a caller who reads by himself. Only one goroutine may use it at a
// time.
type Cutter struct {
	max  int
	emit func([]byte)
	Rest
}

// Rest is what a [Cutter] has of a line whose end has not come yet. The zero Rest is nothing.
type Rest struct {
	Line  []byte // never longer than the limit and one: a carriage return may follow the last byte
	Begun bool   // part of a line has come
	Over  bool   // it was too long and has been delivered; the rest is to be dropped
}

// NewCutter returns a Cutter of lines of at most max bytes; 0 or less means [MaxLine]. emit is called by Feed and End.
func NewCutter(max int, emit func(line []byte)) *Cutter {
	if max <= 0 {
		max = MaxLine
	}
	return &Cutter{max: max, emit: emit}
}

// Feed takes the next bytes.
func (c *Cutter) Feed(b []byte) {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			c.add(b)
			return
		}
		if !c.Begun && i <= c.max { // the usual case: the whole line is in the read buffer
			c.emit(bytes.TrimSuffix(b[:i], cr))
		} else {
			c.add(b[:i])
			c.end()
		}
		b = b[i+1:]
	}
}

// add appends part, which holds no newline, to the line.
func (c *Cutter) add(part []byte) {
	c.Begun = c.Begun || len(part) > 0
	if c.Over {
		return
	}
	if room := c.max + 1 - len(c.Line); len(part) > room {
		c.Line = append(c.Line, part[:room]...)
		c.cut()
		return
	}
	c.Line = append(c.Line, part...)
}

// End delivers what stands after the last newline, if anything does: no more bytes will come.
func (c *Cutter) End() {
	if c.Begun {
		c.end()
	}
}

// end delivers the line, unless it has been, and begins the next.
func (c *Cutter) end() {
	if !c.Over {
		if line := bytes.TrimSuffix(c.Line, cr); len(line) > c.max {
			c.cut()
		} else {
			c.emit(line)
		}
	}
	c.Line, c.Begun, c.Over = c.Line[:0], false, false
	if cap(c.Line) > 2*ReadSize {
		c.Line = nil
	}
}

func (c *Cutter) cut() {
	c.Line = append(c.Line[:c.max], cutMark...)
	c.emit(c.Line)
	c.Over = true
}
