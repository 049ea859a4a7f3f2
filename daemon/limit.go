package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
)

// ErrJobTimeout is the cause with which the context of a job ends that has run for longer than it may.
var ErrJobTimeout = errors.New("the job has run for longer than it may")

// jobKey finds the job in a context.
type jobKey struct{}

// JobOf returns the job whose context, or a child of it, ctx is; nil if it is none.
func JobOf(ctx context.Context) *Job {
	j, _ := ctx.Value(jobKey{}).(*Job)
	return j
}

// Serial returns the job's number in its child, counted from 1.
func (j *Job) Serial() uint64 { return j.serial }

// Extend gives the job d from now on until its time is over, in the place of what is left of Config.JobTimeout. A job
// without a limit gets none. It has no effect when the time is over already.
func (j *Job) Extend(d time.Duration) {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	if j.limit == nil || d <= 0 || !j.limit.timer.Stop() {
		return
	}
	j.setLimit(d)
	if j.c.shown == j.serial {
		j.c.show()
	}
}

// warnAt is the part of a job's time, in per cent, after which the log is told.
const warnAt = 80

// A jobLimit ends a job whose time is over.
type jobLimit struct {
	deadline time.Duration // of the monotonic clock
	timer    *time.Timer
	warning  *time.Timer
}

// setLimit gives the job d from now on; 0: no limit. c.mu is held.
func (j *Job) setLimit(d time.Duration) {
	if l := j.limit; l != nil {
		l.timer.Stop()
		l.warning.Stop()
		j.limit = nil
	}
	if d <= 0 {
		return
	}
	l := &jobLimit{deadline: monotonic() + d}
	j.limit = l
	l.warning = time.AfterFunc(d*warnAt/100, func() {
		fmt.Fprintf(os.Stderr, "job %d has used %d%% of its time: %s\n", j.serial, warnAt, j.description())
	})
	// The parent acts by itself if this process cannot; this is only sooner.
	l.timer = time.AfterFunc(d, func() {
		// The child leaves with the job, also if the job obeys before the parent has heard of it.
		j.c.mu.Lock()
		running := j.c.jobs.has(j)
		j.cancelled, j.fatal = true, true
		j.c.mu.Unlock()
		if running {
			j.c.tell(control.Message{Kind: control.Overtime, Serial: j.serial}) // before the word that it is over
			j.cancel(ErrJobTimeout)
			j.c.drain(ErrJobTimeout)
		}
	})
}

func (j *Job) description() string {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	return j.text
}

// monotonic is the time since some point in the past that all processes agree on. It does not jump when somebody sets
// the clock (clock_gettime(2)).
func monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
