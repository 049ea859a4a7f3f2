package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/brooddaemon/brood/internal/logs"
)

// tailLines is how much of the output of a child that never became ready is kept for the error.
const tailLines = 20

func (proc *process) readOutput(p *Parent, f *os.File, stream string) {
	defer proc.output.Done()
	defer f.Close()
	log := p.childLog.With("slot", proc.slot, "pid", proc.pid, "generation", proc.generation)
	logs.Lines(f, 0, func(line []byte) {
		s := string(line)
		if stream == "stderr" {
			proc.words.add(s)
		}
		if proc.suspect && !p.mayPrint() {
			return
		}
		log.Info(s, slog.String("stream", stream))
	})
}

func (proc *process) readAccess(p *Parent, f *os.File) {
	defer proc.output.Done()
	defer f.Close()
	logs.Lines(f, 0, func(line []byte) {
		if p.access == nil {
			return
		}
		b := time.Now().UTC().AppendFormat(nil, "2006-01-02T15:04:05.000Z")
		b = fmt.Appendf(b, " pid=%d slot=%d generation=%d ", proc.pid, proc.slot, proc.generation)
		b = append(logs.AppendEscape(b, line), '\n')
		p.access.Write(b)
	})
}

const (
	// printAtOnce is how many lines children print at once that take the place of such as have failed; printRate is how many
	// more each second. Each of them may leave the same trace.
	printAtOnce = 400
	printRate   = 4
)

// prints counts the lines of children whose predecessors have failed. All of them share it.
type prints struct {
	mu     sync.Mutex
	ration ration
	left   int
}

// mayPrint reports whether the log takes another line of a child whose predecessors have failed.
func (p *Parent) mayPrint() bool {
	p.prints.mu.Lock()
	defer p.prints.mu.Unlock()
	if !p.prints.ration.may(time.Now()) {
		p.prints.left++
		return false
	}
	if n := p.prints.left; n > 0 {
		p.prints.left = 0
		p.log.Warn("output of failing children was left out", "lines", n)
	}
	return true
}

// words are what a child said before it was ready, kept for the error if it never becomes so.
type words struct {
	mu     sync.Mutex
	failed string
	tail   []string
	enough bool
}

func (w *words) fail(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = text
}

func (w *words) add(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.enough {
		return
	}
	// A panic says what it is about first and where second, so the first lines are kept as well as the last.
	if w.tail = append(w.tail, line); len(w.tail) > tailLines {
		w.tail = slices.Delete(w.tail, tailLines/2, tailLines/2+1)
	}
}

// stop forgets everything: the child is ready.
func (w *words) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail, w.enough = nil, true
}

// wanted reports whether the child has not become ready.
func (w *words) wanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.enough
}

func (w *words) why(status string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.failed != "":
		return w.failed
	case len(w.tail) > 0:
		return "exited before it was ready: " + status + ": " + strings.Join(w.tail, "\n")
	}
	return "exited before it was ready: " + status
}
