package daemon

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/logs"
)

// tailLines is how much of the output of a child that never became ready is kept for the error.
const tailLines = 20

// An output is one of the pipes of a child, which outlives it as long as somebody holds its other end.
type output struct {
	from   origin
	stream string // stdout, stderr or access
	f      *os.File
	cut    *logs.Cutter
	words  *words  // of a child that is not ready yet; may be nil
	ledger *ledger // of the access log
}

// An origin is the child that a line comes from.
type origin struct {
	Slot       int    `json:"slot"`
	PID        int    `json:"pid"`
	Generation uint64 `json:"generation"`
	Suspect    bool   `json:"suspect,omitempty"` // the ones before it in its place have failed
}

// access names the stream of the access log.
const access = "access"

// listenTo makes an output of the reading end of a pipe; handed is what a parent before this one has known of it, if there was one.
func (p *Parent) listenTo(f *os.File, stream string, from origin, w *words, handed handedOutput) *output {
	o := &output{from: from, stream: stream, f: f, words: w}
	var emit func(line []byte)
	if stream == access {
		o.ledger = p.openLedger(from, handed.Ledger)
		emit = func(line []byte) {
			switch {
			case isRecord(line):
				o.ledger.take(line)
			case p.access != nil:
				p.access.Write(p.cfg.AccessFormat.ownLine(from, line, time.Now()))
			}
		}
	} else {
		log := p.childLog.With("slot", from.Slot, "pid", from.PID, "generation", from.Generation)
		emit = func(line []byte) {
			s := string(line)
			if stream == "stderr" && w != nil {
				w.add(s)
			}
			if from.Suspect && !p.mayPrint() {
				return
			}
			log.Info(s, slog.String("stream", stream))
		}
	}
	o.cut = logs.NewCutter(0, emit)
	o.cut.Rest = handed.Rest
	p.outputs.Store(o, nil)
	return o
}

// read reads an output to its end. Whatever is taken out of the pipe is in the log, or in o.cut, when the gate is closed; so
// is the last line.
func (o *output) read(p *Parent) {
	defer o.f.Close()
	defer p.outputs.Delete(o)
	rc, err := o.f.SyscallConn()
	if err != nil {
		return
	}
	end := func() {
		o.cut.End()
		if o.ledger != nil {
			o.ledger.finished()
		}
		p.outputs.Delete(o)
	}
	buf := make([]byte, logs.ReadSize)
	for {
		n := 0
		rerr := rc.Read(func(fd uintptr) bool {
			p.gate.RLock()
			defer p.gate.RUnlock()
			n, err = unix.Read(int(fd), buf)
			switch {
			case n > 0:
				o.cut.Feed(buf[:n])
			case err != unix.EAGAIN && err != unix.EINTR:
				end()
			}
			return err != unix.EAGAIN
		})
		if err == unix.EINTR && rerr == nil {
			continue
		}
		if rerr != nil || err != nil || n <= 0 {
			return
		}
	}
}

// lastLines waits until what children that have ended wrote last is in the logs, for a moment: somebody whom nobody could end may
// go on writing.
func (p *Parent) lastLines() {
	for end := time.Now().Add(lastWords); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !p.gate.TryLock() { // somebody is about to log what he has read
			continue
		}
		left := false
		p.outputs.Range(func(k, _ any) bool {
			left = k.(*output).unread()
			return !left
		})
		p.gate.Unlock()
		if !left {
			return
		}
	}
}

// unread reports whether there is something in the pipe, or its end has not been seen yet.
func (o *output) unread() bool {
	poll := []unix.PollFd{{Fd: int32(fdOf(o.f)), Events: unix.POLLIN}}
	n, _ := unix.Poll(poll, 0)
	return n > 0 && poll[0].Revents&unix.POLLNVAL == 0
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

// tell returns all of it, for the next parent.
func (w *words) tell() (enough bool, failed string, tail []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.enough, w.failed, slices.Clone(w.tail)
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
