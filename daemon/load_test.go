package daemon

import (
	"runtime"
	"sync/atomic"
	"testing"
)

func TestListed(t *testing.T) {
	for text, want := range map[string]int{
		"0": 1, "0-3": 4, "0-3,6": 5, "0,2,4-7": 6, "": 0, "0-": 0, "3-0": 0, "x": 0, "0-3,": 0,
	} {
		if n := listed(text); n != want {
			t.Errorf("%q: %d, want %d", text, n, want)
		}
	}
}

func TestRunnable(t *testing.T) {
	for text, want := range map[string]int{
		"0.20 0.18 0.12 1/80 11206\n": 1, "9.20 0.18 0.12 17/80 11206": 17, "": -1, "0.20 0.18 0.12": -1, "0 0 0 x/80 1": -1,
	} {
		n, ok := runnable([]byte(text))
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, want %d", text, n, want)
		}
	}
}

// This machine's load can be had, and says what it has to: as many threads as there are processors and two more leave none of them idle.
func TestLoad(t *testing.T) {
	l := newLoad()
	if l.file == nil || l.processors < runtime.NumCPU() {
		t.Fatalf("%+v", l)
	}
	var done atomic.Bool
	defer done.Store(true)
	for range l.processors + 2 {
		go func() {
			runtime.LockOSThread()
			for !done.Load() {
			}
		}()
	}
	if was := runtime.GOMAXPROCS(l.processors + 3); was > 0 {
		defer runtime.GOMAXPROCS(was)
	}
	for range 1000 {
		if !l.idle() {
			return
		}
		runtime.Gosched()
	}
	t.Error("a processor is idle, though more threads run than there are")
}
