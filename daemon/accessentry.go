package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// A Request is what a client has asked for, for the access log. All of it may be empty, and none of it is trusted.
type Request struct {
	Line      string // as "GET /path HTTP/1.1"; cut at 4096 bytes
	User      string // as whom the client has proved himself
	Referer   string // cut at 1024 bytes
	UserAgent string // cut at 512 bytes
}

// An Entry is a line of the access log that is under way: of a job, or of one of several requests of a job. It is written when the
// work has ended, by whoever is there then: if the child has been killed or has crashed, by the parent.
type Entry struct {
	c      *Child
	j      *Job
	number uint64
	begun  time.Time
	visit  visit // who, and what for
	told   bool  // the parent knows
	own    bool  // it is the job's own, not of a request that the program has named
	over   atomic.Bool
}

// Log begins an entry for a request on the connection, while its job runs, and says that the job's line is made of such requests.
// Every job of a connection from Conns, or from a Listener without Await, and every job of Do, has an entry of its own as long as
// Log is not called; so Log is for servers of many requests on a connection, such as serve.HTTP. The entry ends with End, or else
// with the job. It is nil, whose End does nothing, if there is no access log or the program writes all of it by itself.
func (conn *Conn) Log(r Request) *Entry {
	j := conn.running()
	if j == nil || !conn.c.tellsJobs {
		return nil
	}
	return conn.c.enter(j, r, false)
}

// enter begins an entry.
func (c *Child) enter(j *Job, r Request, own bool) *Entry {
	e := &Entry{c: c, j: j, number: c.entries.Add(1), begun: time.Now(), own: own}
	e.visit = visit{Job: j.serial, Start: e.begun, User: r.User, Line: r.Line, Referer: r.Referer, Agent: r.UserAgent}
	if j.conn != nil {
		e.visit.Client = j.conn.clientName()
	}
	c.mu.Lock()
	replaced := j.entries
	if own || len(replaced) > 0 && !replaced[0].own {
		replaced = nil
	}
	j.entries = append(j.entries[len(replaced):], e)
	c.mu.Unlock()
	for _, old := range replaced { // the program names requests by itself
		old.finish(outcome{End: endNothing})
	}
	_, err := c.access.Write(appendBegin(nil, e.number, e.visit))
	e.told = err == nil
	return e
}

// End ends the entry: with the status that was answered, 0 for none, and the number of bytes of the answer. How the job came to its
// end, whether by itself or because it was cancelled, is found out here. Only the first call counts.
func (e *Entry) End(status int, bytes int64) {
	if e == nil {
		return
	}
	e.finish(outcome{Status: status, Bytes: bytes, End: e.j.ending()})
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	for i, other := range e.j.entries {
		if other == e {
			e.j.entries = append(e.j.entries[:i:i], e.j.entries[i+1:]...)
			break
		}
	}
}

// Fail ends the entry of work that has panicked.
func (e *Entry) Fail(status int, bytes int64) {
	if e != nil {
		e.finish(outcome{Status: status, Bytes: bytes, End: endFailed})
	}
}

func (e *Entry) finish(a outcome) {
	if e.over.Swap(true) {
		return
	}
	a.Took = time.Since(e.begun)
	var b []byte
	if !e.told { // else it would be the end of nothing
		b = appendBegin(b, e.number, e.visit)
	}
	if _, err := e.c.access.Write(appendEnd(b, e.number, a)); err != nil {
		e.c.complain("a line of the access log is lost: %v", err)
	}
}

// ending tells how a job that ends now has come to that.
func (j *Job) ending() ending {
	switch cause := context.Cause(j.ctx); {
	case cause == nil:
	case errors.Is(cause, ErrClientGone):
		return endGone
	case errors.Is(cause, ErrJobTimeout):
		return endTimeout
	case errors.Is(cause, ErrEvicted), errors.Is(cause, ErrStopping):
		return endEvicted
	}
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	if j.reported && !j.judged { // it has seen that by itself
		return endGone
	}
	return endDone
}

// endEntries ends what has not ended before its job; counts says whether it was one.
func (c *Child) endEntries(j *Job, counts bool) {
	c.mu.Lock()
	left, text := j.entries, j.text
	j.entries = nil
	c.mu.Unlock()
	for _, e := range left {
		a := outcome{End: endNothing}
		if counts {
			a.End = j.ending()
		}
		if e.own {
			a.Line = text
		}
		if j.conn != nil {
			a.Bytes = j.conn.sent.Load() - j.sentBefore
		}
		e.finish(a)
	}
}
