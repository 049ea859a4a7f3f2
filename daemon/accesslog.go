package daemon

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"
)

// accessWait is how long a line for the access log may wait for room in the pipe.
const accessWait = time.Second

// AccessLog returns a writer whose lines go to the access log, stamped with time, pid, slot and generation: for what a program has
// to say there beside the lines of Config.AccessFormat, or in their place with AccessOwn.
//
// Each Write is one or more whole lines. It does not block a job for ever: if the parent does not take the lines
// within a second they are dropped, and the error says so.
func (c *Child) AccessLog() io.Writer { return ownLines{c.access} }

// ownLines are those of the program.
type ownLines struct{ pipe *accessPipe }

func (o ownLines) Write(p []byte) (int, error) {
	if bytes.IndexByte(p, recordMark) < 0 {
		return o.pipe.Write(p)
	}
	// Nothing that a program writes, or has been made to write by a client, passes for a record.
	if n, err := o.pipe.Write(bytes.ReplaceAll(p, []byte{recordMark}, []byte(`\x00`))); err != nil {
		return min(n, len(p)), err
	}
	return len(p), nil
}

// An accessPipe is the way of lines to the parent.
type accessPipe struct {
	f    *os.File
	mu   sync.Mutex
	torn bool // the last line went in half
}

// Write writes whole lines. One that finds room for a part of it only is dropped, and takes no other line with it.
func (a *accessPipe) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.f.SetWriteDeadline(time.Now().Add(accessWait))
	if a.torn {
		if _, err := a.f.Write([]byte("\n")); err != nil {
			return 0, err
		}
		a.torn = false
	}
	n, err := a.f.Write(p)
	a.torn = n > 0 && n < len(p) && p[n-1] != '\n'
	return n, err
}
