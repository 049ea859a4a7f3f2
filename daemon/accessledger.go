package daemon

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// A ledger has the jobs of one child that have begun and not ended, as far as the access log wants to know of them. Each of them
// leaves it with one line: when the child tells of its end, or when the child has ended and everything that it has written has
// been read.
type ledger struct {
	p    *Parent
	from origin
	line []byte // scratch of take

	mu     sync.Mutex
	Open   map[uint64]*visit `json:"open,omitempty"` // by number
	Dead   *death            `json:"dead,omitempty"` // nil: it lives
	bytes  int
	read   bool // to the end
	closed bool
}

// A death is how a child has ended, and with it the jobs that it had.
type death struct {
	At     time.Time         `json:"at"`
	Status string            `json:"status"` // of the process
	Cause  string            `json:"cause,omitempty"`
	End    ending            `json:"end"`           // of its jobs
	Job    uint64            `json:"job,omitempty"` // but of this one
	JobEnd ending            `json:"job_end,omitempty"`
	Lines  map[uint64]string `json:"lines,omitempty"` // what jobs were, as the scoreboard shows it
}

// mostOpen is how many bytes of jobs that have not ended are kept of one child. A child cannot have that many but to do harm.
const mostOpen = 16 << 20

func (a *visit) size() int {
	return 256 + len(a.Client) + len(a.Host) + len(a.User) + len(a.Line) + len(a.Referer) + len(a.Agent)
}

// recordsWanted is what children may say in the pipe of the access log; 0: lines alone.
func (p *Parent) recordsWanted() uint64 {
	if p.access == nil || p.cfg.AccessFormat == AccessOwn {
		return 0
	}
	return recordVersion
}

// openLedger begins a child's, or goes on with what was handed over.
func (p *Parent) openLedger(from origin, handed *ledger) *ledger {
	g := &ledger{p: p, from: from, Open: map[uint64]*visit{}}
	if handed != nil {
		maps.Copy(g.Open, handed.Open)
		for _, a := range g.Open {
			g.bytes += a.size()
		}
		if handed.Dead != nil {
			g.bury(*handed.Dead)
		}
	}
	return g
}

// take takes a record, from the one goroutine that reads them. What makes no sense is left alone: it can be about that very child only.
func (g *ledger) take(line []byte) {
	if job, host, ok := parseHost(line); ok {
		g.name(job, host)
		return
	}
	number, begin, end, err := parseRecord(line)
	if err != nil {
		return
	}
	before := g.note(number, begin, end)
	if before != nil && end != nil && end.End != endNothing && g.p.access != nil {
		// Without the lock: it may wait for a slow disk, which the loop, who may want the ledger, must not.
		g.line = g.p.cfg.AccessFormat.append(g.line[:0], &accessed{visit: *before, outcome: *end, from: g.from})
		g.p.access.Write(g.line)
	}
}

// note takes a job in, or out: then it returns what was known of it.
func (g *ledger) note(number uint64, begin *visit, end *outcome) *visit {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.Open[number]
	switch {
	case g.closed:
		return nil
	case begin != nil && before == nil && g.bytes+begin.size() <= mostOpen:
		g.Open[number] = begin
		g.bytes += begin.size()
	case end != nil && before != nil:
		g.forget(number)
	}
	return before
}

// name notes the name of a host.
func (g *ledger) name(job uint64, host string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.Open {
		if more := len(host) - len(a.Host); a.Job == job && g.bytes+more <= mostOpen {
			g.bytes += more
			a.Host = host
		}
	}
}

func (g *ledger) forget(number uint64) {
	g.bytes -= g.Open[number].size()
	delete(g.Open, number)
}

// finished notes that everything has been read.
func (g *ledger) finished() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.read = true; g.Dead != nil {
		g.close()
	}
}

// isRead reports whether everything has been read, so that nobody but the child's process has the ledger.
func (g *ledger) isRead() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.read
}

// bury notes that the child has ended. Somebody whom it has given the pipe to may hold it for ever; he is not waited for.
func (g *ledger) bury(d death) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.Dead = &d; g.read {
		g.close()
		return
	}
	time.AfterFunc(lastWords, func() {
		g.p.gate.RLock()
		defer g.p.gate.RUnlock()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.close()
	})
}

// close writes the lines of what has ended with the child.
func (g *ledger) close() {
	if g.closed {
		return
	}
	g.closed = true
	for _, number := range slices.Sorted(maps.Keys(g.Open)) {
		a := &accessed{visit: *g.Open[number], from: g.from, exit: g.Dead.Status, cause: g.Dead.Cause}
		a.outcome = outcome{Took: max(g.Dead.At.Sub(a.Start), 0), End: g.Dead.End}
		if a.Job == g.Dead.Job {
			a.End = g.Dead.JobEnd
		}
		if a.visit.Line == "" {
			a.visit.Line = g.Dead.Lines[a.Job]
		}
		if g.p.access != nil {
			g.p.access.Hasty().Write(g.p.cfg.AccessFormat.append(nil, a))
		}
		g.forget(number)
	}
}

// closeLedgers writes the lines of children whose pipes somebody still holds.
func (p *Parent) closeLedgers() {
	p.outputs.Range(func(k, _ any) bool {
		if g := k.(*output).ledger; g != nil {
			g.mu.Lock()
			if g.Dead != nil {
				g.close()
			}
			g.mu.Unlock()
		}
		return true
	})
}
