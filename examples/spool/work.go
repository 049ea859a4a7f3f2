package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/brooddaemon/brood/daemon"
)

const (
	// lookEvery is how often a child without work looks for jobs whose child has died: of that no file tells.
	lookEvery = time.Second
	// idleTime is how long a child waits for work until it leaves. The next one comes soon, and begins as a new process.
	idleTime = time.Minute
)

// work is the main loop of the children that do the jobs.
func (s *spool) work(ctx context.Context, c *daemon.Child) error {
	bell, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer bell.Close()
	if err := bell.Add(filepath.Join(s.dir, "new")); err != nil {
		return err
	}
	s.said = map[string]bool{}
	for last := time.Now(); ctx.Err() == nil && time.Since(last) < idleTime; {
		if err := s.recover(); err != nil {
			return err
		}
		j, wait, err := s.next()
		if err != nil {
			return err
		}
		if j == nil {
			pause(ctx, bell, wait)
			continue
		}
		// Until the daemon knows of the job nothing has changed, so a child that is to leave at this moment just leaves.
		// When the daemon takes the job for ended the file is where it belongs: who leaves then leaves nothing behind.
		err = c.Do(ctx, fmt.Sprintf("%s, attempt %d", j.id, j.tries+1), func(ctx context.Context) error { return s.run(ctx, j) })
		j.f.Close()
		if errors.Is(err, daemon.ErrDraining) {
			return nil
		}
		if err != nil {
			return err
		}
		last = time.Now()
	}
	return nil
}

// pause waits until something changes in new/, but not for longer than d. Errors of the watcher are no more than a reason
// to look.
func pause(ctx context.Context, bell *fsnotify.Watcher, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-bell.Events:
	case <-bell.Errors:
	case <-time.After(d):
	}
}

// run makes one attempt. The error is one of the spool; that the work has failed is none.
func (s *spool) run(ctx context.Context, j *job) error {
	if err := s.move(j, "cur", j.tries+1, time.Now()); err != nil {
		return err
	}
	result, err := perform(ctx, j)
	cause := context.Cause(ctx)
	switch {
	case err == nil:
		return s.finish(j, "done", ".result", result)
	case errors.Is(cause, daemon.ErrStopping) || errors.Is(cause, daemon.ErrEvicted):
		return s.move(j, "new", j.tries-1, time.Now()) // no fault of the job
	}
	return s.retry(j, err)
}

// perform does what the first line of a job says with the rest of it.
func perform(ctx context.Context, j *job) (string, error) {
	text, err := io.ReadAll(j.f)
	if err != nil {
		return "", err
	}
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	kind, arg, _ := bytes.Cut(first, []byte(" "))
	f := kinds[string(kind)]
	if f == nil {
		return "", fmt.Errorf("kind of work %q: want words, sleep or fail", kind)
	}
	return f(ctx, string(arg), j.tries, rest)
}

// kinds are what can be done: yours go here. A job may be done twice, so what it does should bear that.
var kinds = map[string]func(ctx context.Context, arg string, try int, text []byte) (string, error){
	"words": words,
	"sleep": sleep,
	"fail":  fail,
}

// words counts them.
func words(_ context.Context, _ string, _ int, text []byte) (string, error) {
	return strconv.Itoa(len(bytes.Fields(text))), nil
}

// sleep takes its time.
func sleep(ctx context.Context, arg string, _ int, _ []byte) (string, error) {
	d, err := time.ParseDuration(arg)
	if err != nil {
		return "", err
	}
	select {
	case <-time.After(d):
		return "slept " + arg, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// fail fails in so many attempts.
func fail(_ context.Context, arg string, try int, _ []byte) (string, error) {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return "", err
	}
	if try <= n {
		return "", fmt.Errorf("it is to fail %d times", n)
	}
	return fmt.Sprintf("failed %d times", n), nil
}
