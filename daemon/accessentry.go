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
	named  bool  // also the host's name
	own    bool  // it is the job's own, not of a request that the program has named
	status int   // if it ends with the job
	over   atomic.Bool
	next   *Entry // of the job, that began before
}

// Log begins an entry for a request on the connection, while its job runs, and says that the job's lines are those of such requests.
// Every job of a connection from Conns, or from a Listener without Await, and every job of Do, has an entry of its own as long as
// Log is not called; so Log is for servers of many requests on a connection, such as serve.HTTP. Call End or EndWithJob of what it
// returns. That is nil, whose methods do nothing, if there is no access log or the program writes all of it by itself.
func (conn *Conn) Log(r Request) *Entry {
	j := conn.running()
	if j == nil || !conn.c.tellsJobs {
		return nil
	}
	conn.c.endEntries(j, false)
	return conn.c.enter(j, r)
}

// Logs reports whether Conn.Log begins entries: there is an access log, and the program does not write all of it by itself. It does not
// change in the life of a child.
func (c *Child) Logs() bool { return c.tellsJobs }

// enter begins an entry.
func (c *Child) enter(j *Job, r Request) *Entry {
	e := &Entry{c: c, j: j, number: c.entries.Add(1), begun: time.Now()}
	e.visit = visit{Job: j.serial, Start: e.begun, User: r.User, Line: r.Line, Referer: r.Referer, Agent: r.UserAgent}
	if j.conn != nil {
		e.visit.Client = j.conn.clientName()
	}
	_, err := c.access.Write(e.appendHost(appendBegin(nil, e.number, e.visit)))
	e.told = err == nil
	return e
}

// appendHost appends the name of the client's host, if it has become known.
func (e *Entry) appendHost(b []byte) []byte {
	if e.j.conn == nil || e.named {
		return b
	}
	host := e.j.conn.host.Load()
	if host == nil || *host == "" {
		return b
	}
	e.named = true
	return appendHost(b, e.visit.Job, *host)
}

// enterOwn begins the entry of a job that has one by itself.
func (c *Child) enterOwn(j *Job) {
	e := c.enter(j, Request{Line: j.text})
	e.own = true
	e.EndWithJob(0)
}

// End ends the entry: with the status that was answered, 0 for none, the number of bytes of the answer, and what was wrong with the
// work, if it was something that the job does not know of: ErrClientGone for a client who has given up this request and keeps his
// connection, any other error for work that has failed, as by a panic. How the job came to its end, whether by itself or because it was
// cancelled, is found out here. Only the first call counts.
func (e *Entry) End(status int, bytes int64, err error) {
	if e == nil {
		return
	}
	end := e.j.ending()
	switch {
	case end != endDone || err == nil:
	case errors.Is(err, ErrClientGone):
		end = endGone
	default:
		end = endFailed
	}
	e.finish(outcome{Status: status, Bytes: bytes, End: end})
}

// EndWithJob ends the entry when the job ends, or now if it has ended, with the status that was answered, 0 for none: for a connection
// on which something else goes on than requests. What was sent on it during the job is counted.
func (e *Entry) EndWithJob(status int) {
	if e == nil {
		return
	}
	e.status = status
	e.c.mu.Lock()
	running := e.c.jobs.has(e.j)
	if running {
		e.next, e.j.entries = e.j.entries, e
	}
	e.c.mu.Unlock()
	if !running {
		e.finish(outcome{Status: status, Bytes: e.j.sent(), End: e.j.ending()})
	}
}

func (e *Entry) finish(a outcome) {
	if e.over.Swap(true) {
		return
	}
	a.Took = time.Since(e.begun)
	var b []byte
	if !e.told { // else it would be the end of nothing
		b, e.named = appendBegin(b, e.number, e.visit), false
	}
	if _, err := e.c.access.Write(appendEnd(e.appendHost(b), e.number, a)); err != nil {
		e.c.complain("a line of the access log is lost: %v", err)
	}
}

// ending tells how a job that ends now has come to that.
func (j *Job) ending() ending {
	switch cause := context.Cause(&j.ctx); {
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

// sent is the number of bytes that the client of the job got.
func (j *Job) sent() int64 {
	if j.conn == nil {
		return 0
	}
	return j.conn.sent.Load() - j.sentBefore
}

// endEntries ends those that are to end with the job; counts says whether it was one.
func (c *Child) endEntries(j *Job, counts bool) {
	c.mu.Lock()
	e, text := j.entries, j.text
	j.entries = nil
	c.mu.Unlock()
	for ; e != nil; e = e.next {
		a := outcome{Status: e.status, Bytes: j.sent(), End: endNothing}
		if counts {
			a.End = j.ending()
		}
		if e.own {
			a.Line = text
		}
		e.finish(a)
	}
}
