package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// queue is a daemon whose children take their work from elsewhere.
var queue = scenario("queue", func() daemon.Config {
	return daemon.Config{Prefork: 1, Concurrency: 2, MainLoop: queueLoop, StopTimeout: 5 * time.Second, OnClientDisconnect: policy}
})

// queueLoop does what is expected of it by itself, and notes what came of it.
func queueLoop(ctx context.Context, c *daemon.Child) error {
	tell := func(what string, format string, args ...any) {
		note(event{What: what, Slot: c.Slot(), Text: fmt.Sprintf(format, args...)})
	}

	// Many at once: two at a time.
	var now, most, done atomic.Int32
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			err := c.Do(ctx, "one of many", func(context.Context) error {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(time.Millisecond) // so that they overlap
				now.Add(-1)
				done.Add(1)
				return nil
			})
			if err != nil {
				tell("error", "%v", err)
			}
		})
	}
	wg.Wait()
	tell("many", "most %d done %d", most.Load(), done.Load())

	// What the job returns, and what it is given.
	type key struct{}
	with, cancel := context.WithCancelCause(context.WithValue(context.Background(), key{}, "value"))
	failure := errors.New("no luck")
	var job context.Context
	err := c.Do(with, "", func(ctx context.Context) error {
		job = ctx
		cancel(failure)
		<-ctx.Done()
		return fmt.Errorf("%v %w", ctx.Value(key{}), context.Cause(ctx))
	})
	tell("returned", "%v %v %v", err, errors.Is(err, failure), job.Err())

	// Who has given up before gets no place, though there is one.
	called := false
	for range 20 {
		err = c.Do(with, "", func(context.Context) error { called = true; return nil })
	}
	tell("given up", "%v called %v", err, called)

	// While both places are taken: who may not wait gets none.
	release := make(chan struct{})
	running := make(chan context.Context, 2)
	var held sync.WaitGroup
	for i := range 2 {
		held.Go(func() {
			c.Do(ctx, fmt.Sprintf("held %d", i), func(ctx context.Context) error {
				running <- ctx
				<-release
				return nil
			})
		})
	}
	jobs := []context.Context{<-running, <-running}
	short, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	err = c.Do(short, "", func(context.Context) error { called = true; return nil })
	tell("no place", "%v called %v", err, called)

	waiting := make(chan error, 1)
	go func() {
		waiting <- c.Do(context.Background(), "", func(context.Context) error { called = true; return nil })
	}()
	tell("waiting", "")

	<-ctx.Done()
	tell("main loop ends", "draining %v stopping %v", errors.Is(context.Cause(ctx), daemon.ErrDraining), errors.Is(context.Cause(ctx), daemon.ErrStopping))
	tell("waited", "%v called %v", <-waiting, called)
	err = c.Do(context.Background(), "", func(context.Context) error { called = true; return nil })
	tell("too late", "%v called %v", err, called)
	for _, j := range jobs {
		if errors.Is(context.Cause(ctx), daemon.ErrStopping) {
			<-j.Done()
		}
		tell("job", "%s", ending(j))
	}
	close(release)
	held.Wait()
	return ctx.Err()
}

func TestDo(t *testing.T) {
	for _, c := range []struct {
		sig  syscall.Signal
		loop string
		job  string
	}{
		{syscall.SIGTERM, "draining true stopping false", "not cancelled"},
		{syscall.SIGHUP, "draining true stopping false", "not cancelled"},
		{syscall.SIGINT, "draining true stopping true", "stopping"},
	} {
		t.Run(c.sig.String(), func(t *testing.T) {
			t.Parallel()
			s := start(t, queue)
			s.event("waiting", "")
			b := s.await("two jobs", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running == 2 })
			if k := b.Children[0]; k.State != scoreboard.Working || !strings.HasPrefix(k.Text, "held ") || k.Done != 41 || k.Client != "" {
				t.Errorf("the scoreboard shows %+v", k)
			}
			s.signal(c.sig, b.PID)
			eventually(t, "both jobs", func() bool { return len(s.eventsOf("job", "")) >= 2 })
			for what, want := range map[string]string{
				"many":           "most 2 done 40",
				"returned":       "value no luck true context canceled",
				"given up":       "context canceled called false",
				"no place":       "context deadline exceeded called false",
				"main loop ends": c.loop,
				"waited":         daemon.ErrDraining.Error() + " called false",
				"too late":       daemon.ErrDraining.Error() + " called false",
				"job":            c.job,
			} {
				if e := s.event(what, ""); e.Text != want {
					t.Errorf("%s: got %q, want %q", what, e.Text, want)
				}
			}
			if es := s.eventsOf("error", ""); len(es) > 0 {
				t.Errorf("unasked: %+v", es)
			}
			eventually(t, "its end", func() bool { return gone(b.Children[0].PID) })
			if strings.Contains(s.log(), "main loop failed") {
				t.Error("what a main loop returns when it drains is no failure")
			}
		})
	}
}
