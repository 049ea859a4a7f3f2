package daemon

import (
	"io"
	"os"
	"time"
)

// accessWait is how long a line for the access log may wait for room in the pipe.
const accessWait = time.Second

// AccessLog returns a writer whose lines go to the access log, stamped with time, pid, slot and generation.
//
// Each Write is one or more whole lines. It does not block a job for ever: if the parent does not take the lines
// within a second they are dropped, and the error says so.
func (c *Child) AccessLog() io.Writer { return accessLog{c.access} }

type accessLog struct{ f *os.File }

func (a accessLog) Write(p []byte) (int, error) {
	a.f.SetWriteDeadline(time.Now().Add(accessWait))
	return a.f.Write(p)
}
