package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
)

const (
	// progressDelay keeps what is over in a moment from flickering.
	progressDelay = 300 * time.Millisecond
	progressEvery = 200 * time.Millisecond
)

// A progress tells whoever waits at a terminal how far a daemon is with what it was asked for, in one line that is written again
// and again. Anywhere else it writes nothing.
type progress struct {
	w       io.Writer
	verb    string
	stop    chan struct{}
	stopped chan struct{}

	mu   sync.Mutex
	text string // the daemon's last word
}

// showProgress begins to show one on w.
func showProgress(w io.Writer, verb string) *progress {
	p := &progress{w: w, verb: verb, text: "asked", stop: make(chan struct{}), stopped: make(chan struct{})}
	if _, terminal := view.Terminal(w); !terminal || os.Getenv("TERM") == "dumb" {
		close(p.stopped)
		return p
	}
	go p.run()
	return p
}

// say takes the daemon's word.
func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
}

// end takes the line away.
func (p *progress) end() {
	close(p.stop)
	<-p.stopped
}

func (p *progress) run() {
	defer close(p.stopped)
	begun, every, written := time.Now(), time.NewTicker(progressEvery), false
	defer every.Stop()
	for {
		select {
		case <-p.stop:
			if written {
				fmt.Fprint(p.w, "\r\x1b[K")
			}
			return
		case <-every.C:
		}
		if time.Since(begun) < progressDelay {
			continue
		}
		p.mu.Lock()
		line := fmt.Sprintf("%s: %s (%s)", p.verb, view.Safe(p.text), time.Since(begun).Truncate(time.Second))
		p.mu.Unlock()
		if width, _ := view.Terminal(p.w); width > 0 { // the last column is left free: some terminals wrap there
			line = view.Cut(line, width-1)
		}
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		written = true
	}
}
