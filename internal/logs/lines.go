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

// readSize is the read buffer of one pipe. A parent has several pipes for each child, so it is small; what a full line needs
// beyond it is taken only when such a line comes, and given back.
const readSize = 8 << 10

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
	if max <= 0 {
		max = MaxLine
	}
	c := cutter{max: max, emit: emit}
	buf := make([]byte, readSize)
	for empty := 0; empty < 100; empty++ {
		n, err := r.Read(buf)
		if n > 0 {
			empty = 0
			c.feed(buf[:n])
		}
		if err != nil {
			if c.begun {
				c.end()
			}
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("read lines: %w", err)
		}
	}
	return fmt.Errorf("read lines: %w", io.ErrNoProgress)
}

// cutter puts one line together from parts.
type cutter struct {
	max  int
	emit func([]byte)

	line  []byte // never longer than max+1: a carriage return may follow the last byte
	begun bool   // part of a line has come
	over  bool   // it was too long and has been delivered; the rest is to be dropped
}

// feed takes what has been read.
func (c *cutter) feed(b []byte) {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			c.add(b)
			return
		}
		if !c.begun && i <= c.max { // the usual case: the whole line is in the read buffer
			c.emit(bytes.TrimSuffix(b[:i], cr))
		} else {
			c.add(b[:i])
			c.end()
		}
		b = b[i+1:]
	}
}

// add appends part, which holds no newline, to the line.
func (c *cutter) add(part []byte) {
	c.begun = c.begun || len(part) > 0
	if c.over {
		return
	}
	if room := c.max + 1 - len(c.line); len(part) > room {
		c.line = append(c.line, part[:room]...)
		c.cut()
		return
	}
	c.line = append(c.line, part...)
}

// end delivers the line, unless it has been, and begins the next.
func (c *cutter) end() {
	if !c.over {
		if line := bytes.TrimSuffix(c.line, cr); len(line) > c.max {
			c.cut()
		} else {
			c.emit(line)
		}
	}
	c.line, c.begun, c.over = c.line[:0], false, false
	if cap(c.line) > 2*readSize {
		c.line = nil
	}
}

func (c *cutter) cut() {
	c.line = append(c.line[:c.max], cutMark...)
	c.emit(c.line)
	c.over = true
}
