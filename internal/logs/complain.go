package logs

import (
	"fmt"
	"io"
	"time"
)

// complainEvery is the least time between two reports of one log on standard error.
const complainEvery = 10 * time.Second

// complaints keeps a log that cannot be written from filling another one with the news. The zero value is ready but for w.
type complaints struct {
	w      io.Writer
	last   time.Time
	unsaid int    // errors since the last report
	text   string // a report that waits to be taken
}

// add takes note of err, and makes a report of it unless there has been one just now.
func (c *complaints) add(now time.Time, err error) {
	if !c.last.IsZero() && now.Sub(c.last) < complainEvery {
		c.unsaid++
		return
	}
	c.last = now
	if c.unsaid > 0 {
		c.text = fmt.Sprintf("%v (and %d more errors since the last report)\n", err, c.unsaid)
	} else {
		c.text = err.Error() + "\n"
	}
	c.unsaid = 0
}

// take returns the report that waits, if any, and where it belongs.
func (c *complaints) take() (string, io.Writer) {
	text := c.text
	c.text = ""
	return text, c.w
}
