package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A hook that hangs is reported by name, when it hangs and when it has returned after all.
func TestHookHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := &Parent{log: slog.New(slog.NewTextHandler(&log, nil))}
		p.attempt("IdleLoop", func() error {
			time.Sleep(hookPatience - time.Millisecond)
			return nil
		})
		if log.Len() > 0 {
			t.Errorf("of one that is slow the log says %s", log.String())
		}
		p.attempt("ChildExit", func() error {
			time.Sleep(hookPatience + time.Second)
			synctest.Wait()
			if !strings.Contains(log.String(), `msg="hook hangs" hook=ChildExit for=5s`) {
				t.Errorf("while it hangs the log says %s", log.String())
			}
			return errors.New("no luck")
		})
		for _, want := range []string{`msg="hook has returned" hook=ChildExit after=6s`, `msg="hook failed" hook=ChildExit err="ChildExit: no luck"`} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no %s in %s", want, log.String())
			}
		}
	})
}

// Hooks wait for each other, and when one never returns those that wait are counted out aloud and not for ever.
func TestHooksQueueFull(t *testing.T) {
	var log bytes.Buffer
	p := &Parent{log: slog.New(slog.NewTextHandler(&log, nil)), done: make(chan struct{})}
	h := newHooks(p)
	for range hookQueue {
		if !h.do("ChildExit", func() {}) {
			t.Fatal("there is no room for a call that may wait")
		}
	}
	if h.do("ChildExit", func() {}) || !strings.Contains(log.String(), "hook is far behind") {
		t.Errorf("one too many is taken; the log says %q", log.String())
	}
}

// One that ends its goroutine does not take the others with it.
func TestHookGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := &Parent{log: slog.New(slog.NewTextHandler(&log, nil)), done: make(chan struct{})}
		h := newHooks(p)
		go h.run()
		called := false
		h.do("ChildExit", runtime.Goexit)
		h.do("AllReady", func() { called = true })
		synctest.Wait()
		close(p.done)
		synctest.Wait()
		if want := `msg="hook failed" hook=ChildExit err="it has ended its goroutine"`; !called || !strings.Contains(log.String(), want) {
			t.Errorf("the next one was called: %v; the log says %s", called, log.String())
		}
	})
}
