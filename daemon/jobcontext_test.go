package daemon

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// contexts returns that of a job, that of work for it, and what ends the parent of the latter.
func contexts() (j *Job, with *jobContext, end context.CancelCauseFunc) {
	type key struct{}
	j = &Job{}
	j.ctx.parent, j.ctx.job = context.Background(), j
	parent, end := context.WithCancelCause(context.WithValue(context.Background(), key{}, "value"))
	return j, &jobContext{parent: parent, job: j, of: &j.ctx}, end
}

// Whatever ends the context of a job's work, and whether somebody waits for it or not, it has ended then, with the first cause, and so
// has what was made of it.
func TestJobContextEnds(t *testing.T) {
	var errJob, errParent = errors.New("job"), errors.New("parent")
	ends := map[error]func(*Job, *jobContext, context.CancelCauseFunc){
		errJob:           func(j *Job, _ *jobContext, _ context.CancelCauseFunc) { j.cancel(errJob) },
		errParent:        func(_ *Job, _ *jobContext, end context.CancelCauseFunc) { end(errParent) },
		context.Canceled: func(_ *Job, with *jobContext, _ context.CancelCauseFunc) { with.end(context.Canceled) },
	}
	looks := map[string]func(*jobContext){
		"nobody":  func(*jobContext) {},
		"Done":    func(c *jobContext) { c.Done() },
		"Err":     func(c *jobContext) { c.Err() },
		"Cause":   func(c *jobContext) { context.Cause(c) },
		"the job": func(c *jobContext) { c.of.Done() },
	}
	for cause, end := range ends {
		for other, endAgain := range ends {
			for before, look := range looks {
				for between, lookAgain := range looks {
					synctest.Test(t, func(t *testing.T) {
						j, with, parent := contexts()
						look(with)
						var child context.Context
						if before == "Done" {
							var cancel context.CancelFunc
							child, cancel = context.WithTimeout(with, time.Hour)
							defer cancel()
						}
						if err := with.Err(); err != nil || context.Cause(with) != nil {
							t.Errorf("%s: %v, %v before it has ended", before, err, context.Cause(with))
						}
						end(j, with, parent)
						synctest.Wait() // who follows another context hears of it on a goroutine
						lookAgain(with)
						endAgain(j, with, parent)
						want := cause
						if before != "Done" && (between == "nobody" || between == "the job") && cause == errParent && other == errJob {
							want = errJob // nobody has seen which was first
						}
						if err := with.Err(); err != context.Canceled {
							t.Errorf("%v, %s, %v: %v", cause, before, other, err)
						}
						<-with.Done()
						if got := context.Cause(with); got != want {
							t.Errorf("%s, %v, %s, %v: the cause is %v", before, cause, between, other, got)
						}
						if child != nil {
							<-child.Done()
							if got := context.Cause(child); got != want {
								t.Errorf("%s, %v, %s, %v: the cause of its child is %v", before, cause, between, other, got)
							}
						}
						parent(nil)
						with.end(context.Canceled)
					})
				}
			}
		}
	}
}

// A job is found in its context, and in what was made of it; so are the parent's values, before and after somebody waits.
func TestJobContextValues(t *testing.T) {
	type key struct{}
	j, _, _ := contexts()
	with := &jobContext{parent: context.WithValue(context.Background(), key{}, "value"), job: j, of: &j.ctx}
	for range 2 {
		child, cancel := context.WithCancel(context.WithoutCancel(with))
		for _, ctx := range []context.Context{with, child} {
			if JobOf(ctx) != j || ctx.Value(key{}) != "value" {
				t.Errorf("%v: %v, %v", ctx, JobOf(ctx), ctx.Value(key{}))
			}
		}
		cancel()
		with.Done()
	}
	if _, ok := with.Deadline(); ok {
		t.Error("it has a deadline")
	}
}

// Several may wait for it at once, and find the job and the cause.
func TestJobContextWaiters(t *testing.T) {
	j, with, _ := contexts()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(with)
			defer cancel()
			<-ctx.Done()
			if context.Cause(ctx) != ErrClientGone || JobOf(ctx) != j {
				t.Errorf("%v of %v", context.Cause(ctx), JobOf(ctx))
			}
		})
	}
	j.cancel(ErrClientGone)
	wg.Wait()
}

// Nothing is made for a context that nobody waits for.
func TestJobContextCosts(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		_, with, _ := contexts()
		with.Err()
		with.Value(0)
		with.end(context.Canceled)
	}) - testing.AllocsPerRun(100, func() { contexts() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
