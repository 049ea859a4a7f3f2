package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A valve is a sink that can be stuck. The tests run in synctest bubbles, so time is exact and stands still while anybody
// can run.
type valve struct {
	mu     sync.Mutex
	out    bytes.Buffer
	gate   chan struct{} // Write waits until it is closed; nil for open
	refuse error
	closed int
}

func (v *valve) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gate = make(chan struct{})
}

func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.gate)
	v.gate = nil
}

func (v *valve) Write(p []byte) (int, error) {
	v.mu.Lock()
	gate := v.gate
	v.mu.Unlock()
	if gate != nil {
		<-gate
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.refuse != nil {
		return 0, v.refuse
	}
	return v.out.Write(p)
}

func (v *valve) Reopen() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.WriteString("<reopen>\n")
	return v.refuse
}

func (v *valve) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed++
	return v.refuse
}

func (v *valve) text() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.out.String()
}

// took returns how long f takes on the bubble's clock.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestWriterKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		w := NewWriter(v, Queue{})
		record := []byte("0000\n")
		var want strings.Builder
		for i := range 5000 {
			copy(record, fmt.Sprintf("%04d", i)) // Write has to copy: the caller's bytes change
			mustWrite(t, w, string(record))
			want.Write(record)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if v.text() != want.String() {
			t.Error("the records are not as written")
		}
		if err := errors.Join(w.Close(), w.Close()); err != nil || v.closed != 1 {
			t.Errorf("Close: %v, the sink closed %d times", err, v.closed)
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
		if err := w.Reopen(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Reopen after Close: %v", err)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Errorf("Flush after Close: %v", err)
		}
	})
}

func TestStuckSinkBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		v.shut()
		w := NewWriter(v, Queue{Bytes: 10 * (4 + recordCost)})
		d := took(func() {
			for i := range 25 {
				mustWrite(t, w, fmt.Sprintf("%03d\n", i))
			}
		})
		if d != 0 || w.Dropped() != 15 {
			t.Errorf("25 writes took %v, %d dropped, want 0 and 15", d, w.Dropped())
		}
		v.open()
		synctest.Wait()
		// The notice comes by itself, although nobody writes.
		want := "000\n001\n002\n003\n004\n005\n006\n007\n008\n009\n… 15 lines dropped\n"
		if v.text() != want {
			t.Errorf("got %q", v.text())
		}
		mustWrite(t, w, "end\n")
		if err := w.Close(); err != nil || v.text() != want+"end\n" {
			t.Errorf("Close: %v, got %q", err, v.text())
		}
	})
}

// The notice stands where the dropped lines would have stood, and not after each line that finds room.
func TestNoticeStandsInItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		step := make(chan struct{})
		slow := sinkFunc(func(p []byte) (int, error) {
			<-step
			return v.Write(p)
		})
		lost := func(n uint64) []byte { return fmt.Appendf(nil, "[-%d]\n", n) }
		w := NewWriter(slow, Queue{Bytes: 4 * (2 + recordCost), Lost: lost})
		for _, c := range "abcdef" { // e, f dropped
			mustWrite(t, w, string(c)+"\n")
		}
		step <- struct{}{} // a: room for one, but more than half is taken
		synctest.Wait()
		mustWrite(t, w, "g\n") // dropped
		step <- struct{}{}     // b: half empty
		synctest.Wait()
		mustWrite(t, w, "h\n")
		mustWrite(t, w, "i\n")
		mustWrite(t, w, "j\n") // dropped
		close(step)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := v.text(), "a\nb\nc\nd\n[-3]\nh\ni\n[-1]\n"; got != want || w.Dropped() != 4 {
			t.Errorf("got %q, %d dropped, want %q and 4", got, w.Dropped(), want)
		}
	})
}

type sinkFunc func(p []byte) (int, error)

func (f sinkFunc) Write(p []byte) (int, error) { return f(p) }

func (f sinkFunc) Reopen() error { return nil }

func (f sinkFunc) Close() error { return nil }

func TestPatientWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		v.shut()
		w := NewWriter(v, Queue{Bytes: 2 * (2 + recordCost), Wait: time.Second})
		mustWrite(t, w, "a\n")
		mustWrite(t, w, "b\n")
		// Room in time: nothing is lost.
		time.AfterFunc(300*time.Millisecond, v.open)
		if d := took(func() { mustWrite(t, w, "c\n") }); d != 300*time.Millisecond || w.Dropped() != 0 {
			t.Errorf("the write took %v, %d dropped", d, w.Dropped())
		}
		synctest.Wait()
		// No room in time: one waits, the others do not.
		v.shut()
		for _, s := range []string{"d\n", "e\n"} {
			mustWrite(t, w, s)
		}
		if d := took(func() { mustWrite(t, w, "f\n") }); d != time.Second || w.Dropped() != 1 {
			t.Errorf("the first write took %v, %d dropped", d, w.Dropped())
		}
		if d := took(func() { mustWrite(t, w, "g\n") }); d != 0 || w.Dropped() != 2 {
			t.Errorf("the second write took %v, %d dropped", d, w.Dropped())
		}
		v.open()
		synctest.Wait()
		mustWrite(t, w, "h\n")
		if err := w.Close(); err != nil || v.text() != "a\nb\nc\nd\ne\n… 2 lines dropped\nh\n" {
			t.Errorf("Close: %v, got %q", err, v.text())
		}
	})
}

// Several wait at once, and Close sends them away without waiting for their time.
func TestManyPatientWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		v.shut()
		w := NewWriter(v, Queue{Bytes: 2 * (2 + recordCost), Wait: time.Hour, Grace: time.Second})
		mustWrite(t, w, "a\n")
		mustWrite(t, w, "b\n")
		start := time.Now()
		var wg sync.WaitGroup
		var turned int
		var mu sync.Mutex
		for range 10 {
			wg.Go(func() {
				_, err := io.WriteString(w, "x\n")
				if errors.Is(err, os.ErrClosed) && time.Since(start) == time.Second/2 {
					mu.Lock()
					turned++
					mu.Unlock()
				}
			})
		}
		synctest.Wait()
		time.Sleep(time.Second / 2)
		d := took(func() {
			if err := w.Close(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Close: %v", err)
			}
		})
		wg.Wait()
		if turned != 10 || d != time.Second || w.Dropped() != 2 {
			t.Errorf("%d turned away, Close took %v, %d dropped", turned, d, w.Dropped())
		}
		v.open() // lets the goroutine end; synctest fails the test if it stays
	})
}

func TestRecordThatNeverFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		w := NewWriter(v, Queue{Bytes: 100, Wait: time.Hour})
		mustWrite(t, w, "a\n")
		if d := took(func() { mustWrite(t, w, strings.Repeat("x", 100)) }); d != 0 || w.Dropped() != 1 {
			t.Errorf("the write took %v, %d dropped", d, w.Dropped())
		}
		mustWrite(t, w, "b\n")
		if err := w.Flush(t.Context()); err != nil || v.text() != "a\n… 1 line dropped\nb\n" {
			t.Errorf("Flush: %v, got %q", err, v.text())
		}
		// It says nothing about the queue: others still find room, even when it is more than half taken.
		v.shut()
		for _, s := range []string{"c\n", "d\n", strings.Repeat("x", 100)} {
			mustWrite(t, w, s)
		}
		w.mu.Lock()
		room := !w.full
		w.mu.Unlock()
		if !room || w.Dropped() != 2 {
			t.Errorf("room %v, %d dropped", room, w.Dropped())
		}
		v.open()
		w.Close()
	})
}

// The hasty one waits for nobody and is not crowded out by those who wait; what it drops takes their patience from nobody.
func TestHasty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{}
		v.shut()
		w := NewWriter(v, Queue{Bytes: 8 * (2 + recordCost), Wait: time.Hour})
		for range 8 {
			mustWrite(t, w, "a\n")
		}
		var patient sync.WaitGroup
		for range 5 {
			patient.Go(func() { mustWrite(t, w, "p\n") })
		}
		synctest.Wait()
		h := w.Hasty()
		for _, s := range []string{"b\n", "c\n", "d\n"} {
			if d := took(func() { mustWrite(t, h, s) }); d != 0 {
				t.Errorf("%q took %v", s, d)
			}
		}
		if n := w.Dropped(); n != 1 {
			t.Errorf("%d dropped, want the last one that was in a hurry", n)
		}
		time.Sleep(time.Minute)
		v.open()
		patient.Wait()
		want := strings.Repeat("a\n", 8) + "b\nc\n… 1 line dropped\n" + strings.Repeat("p\n", 5)
		if err := w.Close(); err != nil || v.text() != want {
			t.Errorf("Close: %v, got %q, want %q", err, v.text(), want)
		}
	})
}
