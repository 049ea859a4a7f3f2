package logs

import (
	"io"
	"sync"
)

// Sink is where records end: a [File], standard error ([Std]), or a [Writer] in front of one.
//
// Its methods may be called from any goroutine. One call of Write is one record.
type Sink interface {
	io.Writer
	// Reopen makes later records go to the file that lies at the path then, as after a rename by logrotate. What is not a
	// file has nothing to reopen and returns nil.
	Reopen() error
	// Close ends the sink and gives back what it holds.
	Close() error
}

// Std makes a Sink of w, for daemons in the foreground that log to standard error.
//
// Records are written one at a time, each with one call of w.Write. Reopen does nothing. Close does not close w, which
// belongs to the caller, and a Write after it still works, for a last word.
func Std(w io.Writer) Sink { return &std{w: w} }

type std struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *std) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

func (s *std) Reopen() error { return nil }

func (s *std) Close() error { return nil }
