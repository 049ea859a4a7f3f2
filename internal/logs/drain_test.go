package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestFlushGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		v.shut()
		w := NewWriter(v, Queue{})
		mustWrite(t, w, "a\n")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if d := took(func() {
			if err := w.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Flush: %v", err)
			}
		}); d != time.Second {
			t.Errorf("Flush took %v", d)
		}
		time.AfterFunc(time.Second, v.open)
		if d := took(func() {
			if err := w.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		}); d != time.Second || v.text() != "a\n" {
			t.Errorf("Flush took %v, got %q", d, v.text())
		}
		w.Close()
	})
}

// What has been dropped before Flush is told before Flush returns.
func TestFlushTellsOfLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := make(chan struct{})
		w := NewWriter(sinkFunc(func(p []byte) (int, error) { <-step; return len(p), nil }), Queue{Bytes: 2 + recordCost})
		mustWrite(t, w, "a\n")
		mustWrite(t, w, "b\n") // dropped
		flushed := make(chan error, 1)
		go func() { flushed <- w.Flush(context.Background()) }()
		synctest.Wait()
		step <- struct{}{} // a
		synctest.Wait()
		select {
		case err := <-flushed:
			t.Errorf("Flush returns before the notice is written: %v", err)
		default:
		}
		step <- struct{}{} // the notice
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		w.Close()
	})
}

func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		w := NewWriter(v, Queue{})
		mustWrite(t, w, "before\n")
		synctest.Wait()
		v.shut()
		for range 5 {
			mustWrite(t, w, "a\n")
		}
		flushed := make(chan error)
		go func() { flushed <- w.Flush(context.Background()) }()
		synctest.Wait()
		d := took(func() {
			err := w.Close()
			if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "5 records not written within 2s") {
				t.Errorf("Close: %v", err)
			}
		})
		if d != defaultGrace || w.Dropped() != 5 {
			t.Errorf("Close took %v, %d dropped", d, w.Dropped())
		}
		if err := <-flushed; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Flush: %v", err)
		}
		v.open()
		synctest.Wait()
		if v.text() != "before\na\n" || v.closed != 1 {
			t.Errorf("afterwards: %q, closed %d times", v.text(), v.closed)
		}
	})
}

func TestReopenKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		v.shut()
		w := NewWriter(v, Queue{})
		mustWrite(t, w, "a\n")
		if d := took(func() {
			if err := w.Reopen(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("stuck: %v", err)
			}
		}); d != defaultGrace {
			t.Errorf("Reopen took %v", d)
		}
		mustWrite(t, w, "b\n")
		v.open()
		if err := w.Reopen(); err != nil {
			t.Error(err)
		}
		if got := v.text(); got != "a\n<reopen>\nb\n<reopen>\n" {
			t.Errorf("got %q", got)
		}
		v.refuse = errors.New("no such luck")
		if err := w.Reopen(); err != v.refuse {
			t.Errorf("got %v", err)
		}
		mustWrite(t, w, "c\n")
		if err := w.Flush(t.Context()); err != nil || w.Failed() != 1 || w.Dropped() != 0 {
			t.Errorf("Flush: %v, %d failed, %d dropped", err, w.Failed(), w.Dropped())
		}
		if err := w.Close(); err != v.refuse {
			t.Errorf("Close: %v", err)
		}
	})
}

// Whatever the sink does, each record is written or counted, in order, and every gap has its notice of the right number.
func TestWriterProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 8).Draw(rt, "room") * (5 + recordCost)
		acts := rapid.SliceOf(rapid.SampledFrom([]string{"write", "write", "write", "toggle", "settle", "flush"})).Draw(rt, "acts")
		synctest.Test(t, func(t *testing.T) {
			v := &valve{}
			w := NewWriter(v, Queue{Bytes: limit, Lost: func(n uint64) []byte { return fmt.Appendf(nil, "lost %d\n", n) }})
			stuck, written := false, 0
			for _, act := range acts {
				switch act {
				case "write":
					mustWrite(t, w, fmt.Sprintf("%04d\n", written))
					written++
				case "toggle":
					if stuck = !stuck; stuck {
						v.shut()
					} else {
						v.open()
					}
				case "settle":
					synctest.Wait()
				case "flush":
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					if err := w.Flush(ctx); err != nil && !stuck {
						rt.Errorf("Flush: %v", err)
					}
					cancel()
				}
			}
			if stuck {
				v.open()
			}
			if err := w.Close(); err != nil {
				rt.Errorf("Close: %v", err)
			}
			next, lost := 0, 0
			for line := range strings.Lines(v.text()) {
				var n int
				if _, err := fmt.Sscanf(line, "lost %d", &n); err == nil {
					next, lost = next+n, lost+n
				} else if line == fmt.Sprintf("%04d\n", next) {
					next++
				} else {
					rt.Fatalf("%q where %d is due", line, next)
				}
			}
			if next != written || uint64(lost) != w.Dropped() {
				rt.Errorf("%d accounted for of %d, %d lost by notices, %d by count", next, written, lost, w.Dropped())
			}
		})
	})
}

func BenchmarkWriter(b *testing.B) {
	w := NewWriter(Std(io.Discard), Queue{Wait: time.Second})
	record := bytes.Repeat([]byte("x"), 120)
	for b.Loop() {
		w.Write(record)
	}
	w.Close()
	b.ReportMetric(float64(w.Dropped()), "dropped")
}
