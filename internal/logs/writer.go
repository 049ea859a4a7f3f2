package logs

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Queue says how much a [Writer] holds and how long it is patient. The zero value is ready to use.
type Queue struct {
	// Bytes bounds what waits in memory, each record counted with 32 bytes of book-keeping. 0 means 1 MiB. A record that is
	// longer than this is always dropped. A quarter more is there for the hasty alone. The memory in use is at most about
	// twice as much.
	Bytes int
	// Wait is how long one Write may block when there is no room. 0 means not at all.
	Wait time.Duration
	// Grace bounds Close and Reopen when the sink is stuck. 0 means 2 s.
	Grace time.Duration
	// Lost makes the line that stands in the log in place of n dropped records; it should end in a newline. Only the Writer's
	// goroutine calls it; while it runs nothing is written, and it must not call the Writer. nil means
	// "… N lines dropped" (one: "… 1 line dropped").
	Lost func(n uint64) []byte
}

const (
	defaultQueue = 1 << 20
	defaultGrace = 2 * time.Second

	// recordCost is what a record costs besides its bytes, so that a flood of empty lines is bounded too.
	recordCost = 32
)

// Writer is an asynchronous, bounded writer in front of a sink: nobody who logs has to wait for a slow disk.
//
// Write copies the record into the queue; one goroutine writes the records to the sink, in the order in which they came. If
// the queue is full, records are dropped and counted until it is half empty again; then one line tells how many, in the
// place where they would have stood. Its methods may be called from any goroutine, and it is itself a [Sink].
//
// What the sink refuses is counted by [Writer.Failed] and otherwise the sink's affair; [File] reports it.
type Writer struct {
	sink Sink
	q    Queue
	done chan struct{} // closed when the goroutine has ended

	closeErr error // of the sink; valid once done is closed

	mu     sync.Mutex
	work   *sync.Cond    // something has been queued, or closed
	moved  chan struct{} // closed when an entry is through; nil if nobody waits for that
	data   []byte        // the bytes of queue
	queue  []entry
	used   int    // bytes and costs of all that is not yet through, what the goroutine has included
	put    uint64 // entries queued since the start
	got    uint64 // entries through since the start
	held   uint64 // records among those not yet through
	full   bool   // dropping, until half empty
	lost   uint64 // dropped since the last notice was queued
	closed bool
	gaveUp bool // Close has not waited for the rest

	dropped, failed uint64
}

// An entry of the queue is one of three things: a record, a notice, or a wish to reopen.
type entry struct {
	end    int          // record: where its bytes end in data
	cost   int          // record: what it adds to used, more than 0
	lost   uint64       // notice: how many were dropped here
	reopen chan<- error // wish: where the answer goes; has room for it
}

// NewWriter starts a Writer in front of sink, which belongs to it from here on: Close closes it.
func NewWriter(sink Sink, q Queue) *Writer {
	if q.Bytes <= 0 {
		q.Bytes = defaultQueue
	}
	if q.Grace <= 0 {
		q.Grace = defaultGrace
	}
	if q.Lost == nil {
		q.Lost = lostText
	}
	w := &Writer{sink: sink, q: q, done: make(chan struct{})}
	w.work = sync.NewCond(&w.mu)
	go w.run()
	return w
}

func lostText(n uint64) []byte {
	if n == 1 {
		return []byte("… 1 line dropped\n")
	}
	return fmt.Appendf(nil, "… %d lines dropped\n", n)
}

// Write queues a copy of one record, or drops it.
//
// It blocks for Queue.Wait at the longest, and not at all once the queue is known to be full: a stuck disk costs one wait and
// not one for each record. A dropped record is no error, since an error would end an io.Copy or an io.MultiWriter that has
// other things to do; see [Writer.Dropped]. After Close the error wraps os.ErrClosed.
func (w *Writer) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	cost := len(p) + recordCost
	if !w.room(cost) && !w.full && cost <= w.q.Bytes && w.q.Wait > 0 {
		w.awaitRoom(cost)
	}
	room := w.room(cost)
	if !room && cost <= w.q.Bytes { // a record that never fits says nothing about the queue
		w.full = true
	}
	return w.admit(p, cost, room)
}

// Hasty returns a view of w whose Write never blocks, for a caller who has no time at all.
//
// So that those who can wait do not crowd it out, it has a quarter of Queue.Bytes to itself; beyond that its records are dropped at
// once. What it drops says nothing about the sink, so nobody else stops waiting for it.
func (w *Writer) Hasty() io.Writer { return hasty{w} }

type hasty struct{ w *Writer }

func (h hasty) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	cost := len(p) + recordCost
	return w.admit(p, cost, cost <= w.q.Bytes && w.used+cost <= w.q.Bytes+w.q.Bytes/4)
}

// admit queues a copy of p, or counts it as dropped where there is no room.
func (w *Writer) admit(p []byte, cost int, room bool) (int, error) {
	switch {
	case w.closed:
		return 0, fmt.Errorf("write log: %w", os.ErrClosed)
	case !room:
		w.lost++
		w.dropped++
		w.work.Signal() // if nothing else is queued, the notice is due now
	default:
		w.noticeLost()
		w.data = append(w.data, p...)
		w.used += cost
		w.held++
		w.enqueue(entry{end: len(w.data), cost: cost})
	}
	return len(p), nil
}

// room reports whether a record of that cost may be queued. After a drop it may not until the queue is half empty; else, at
// the limit, notices and records would take turns.
func (w *Writer) room(cost int) bool {
	if w.full && w.used <= w.q.Bytes/2 {
		w.full = false
	}
	return !w.full && w.used+cost <= w.q.Bytes
}

// awaitRoom waits until there is room, or somebody else finds the queue full, or the time is over.
func (w *Writer) awaitRoom(cost int) {
	ctx, cancel := context.WithTimeout(context.Background(), w.q.Wait)
	defer cancel()
	for !w.closed && !w.full && !w.room(cost) {
		if w.awaitMove(ctx) != nil {
			return
		}
	}
}

// awaitMove gives up the lock until an entry is through or the Writer is closed.
func (w *Writer) awaitMove(ctx context.Context) error {
	if w.moved == nil {
		w.moved = make(chan struct{})
	}
	moved := w.moved
	w.mu.Unlock()
	defer w.mu.Lock()
	select {
	case <-moved:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noticeLost queues the notice for what was dropped since the last one, if anything was. It may exceed the limit: it has no
// bytes yet, and there is at most one for each time that the queue was full.
func (w *Writer) noticeLost() {
	if w.lost > 0 {
		w.enqueue(entry{lost: w.lost, end: len(w.data)})
		w.lost = 0
	}
}

func (w *Writer) enqueue(e entry) {
	w.queue = append(w.queue, e)
	w.put++
	w.work.Signal()
}

// Dropped returns how many records have been dropped since the start, for want of room or because Close did not wait.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Failed returns how many records the sink has refused since the start.
func (w *Writer) Failed() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// Flush waits until everything written before the call has reached the sink, or ctx ends; then the error wraps its cause.
func (w *Writer) Flush(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.noticeLost()
	}
	for upTo := w.put; w.got < upTo; {
		if w.gaveUp {
			return fmt.Errorf("flush log: %w", os.ErrClosed)
		}
		if w.awaitMove(ctx) != nil {
			return fmt.Errorf("flush log: %w", context.Cause(ctx))
		}
	}
	return nil
}

// Reopen reopens the sink after the records written so far and before all later ones.
//
// It waits for that for Queue.Grace. After that time the error wraps os.ErrDeadlineExceeded, and the sink is reopened as
// soon as it is no longer stuck.
func (w *Writer) Reopen() error {
	answer := make(chan error, 1)
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return fmt.Errorf("reopen log: %w", os.ErrClosed)
	}
	w.noticeLost()
	w.enqueue(entry{reopen: answer, end: len(w.data)})
	w.mu.Unlock()
	timer := time.NewTimer(w.q.Grace)
	defer timer.Stop()
	select {
	case err := <-answer:
		return err
	case <-w.done:
		return fmt.Errorf("reopen log: %w", os.ErrClosed)
	case <-timer.C:
		return fmt.Errorf("reopen log: not within %v: %w", w.q.Grace, os.ErrDeadlineExceeded)
	}
}

// Close writes what is queued and closes the sink, for Queue.Grace at the longest.
//
// After that time the rest is dropped and counted, the error wraps os.ErrDeadlineExceeded, and the goroutine lives on until
// the sink's Write returns; it then closes the sink. A second Close does nothing and returns nil.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	w.work.Signal()
	w.wakeWaiters()
	w.mu.Unlock()
	return w.awaitEnd()
}
