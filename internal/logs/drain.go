package logs

import (
	"fmt"
	"os"
	"time"
)

// run is the goroutine of a Writer: the only one that touches the sink.
func (w *Writer) run() {
	defer close(w.done)
	w.drain()
	w.closeErr = w.sink.Close()
}

// drain writes until the Writer is closed and empty, or Close has given up.
func (w *Writer) drain() {
	var data []byte
	var batch []entry
	for {
		var ok bool
		if data, batch, ok = w.take(data, batch); !ok {
			return
		}
		start := 0
		for _, e := range batch {
			if !w.through(e, w.hand(e, data[start:e.end])) {
				return
			}
			start = e.end
		}
	}
}

// take waits for entries and takes them all, leaving the emptied buffers of the last batch in their place.
func (w *Writer) take(data []byte, batch []entry) ([]byte, []entry, bool) {
	clear(batch) // lets go of the channels
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 {
		if w.lost > 0 { // nobody has written since, so the notice would wait for ever
			w.noticeLost()
			break
		}
		if w.closed {
			return nil, nil, false
		}
		w.work.Wait()
	}
	data, w.data = w.data, data[:0]
	batch, w.queue = w.queue, batch[:0]
	return data, batch, true
}

// hand gives one entry to the sink, for as long as that takes.
func (w *Writer) hand(e entry, record []byte) error {
	var err error
	switch {
	case e.reopen != nil:
		e.reopen <- w.sink.Reopen()
	case e.lost > 0:
		_, err = w.sink.Write(w.q.Lost(e.lost))
	default:
		_, err = w.sink.Write(record)
	}
	return err
}

// through books an entry that the sink has had. It returns false if the rest is not to be written.
func (w *Writer) through(e entry, err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gaveUp { // it has been counted as dropped
		return false
	}
	w.got++
	if e.cost > 0 {
		w.used -= e.cost
		w.held--
		if err != nil {
			w.failed++
		}
	}
	w.wakeWaiters()
	return true
}

func (w *Writer) wakeWaiters() {
	if w.moved != nil {
		close(w.moved)
		w.moved = nil
	}
}

// awaitEnd waits for the goroutine of a closed Writer, and after the grace gives up what is left.
func (w *Writer) awaitEnd() error {
	timer := time.NewTimer(w.q.Grace)
	defer timer.Stop()
	select {
	case <-w.done:
		return w.closeErr
	case <-timer.C:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaveUp = true
	w.dropped += w.held
	w.wakeWaiters()
	return fmt.Errorf("close log: %d records not written within %v: %w", w.held, w.q.Grace, os.ErrDeadlineExceeded)
}
