package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/brooddaemon/brood/daemon"
)

// lookEvery is how often a child without work looks for some: new, due again, or left by a child that has died.
const lookEvery = 200 * time.Millisecond

// work is the main loop of the children that do the jobs.
func (s *spool) work(ctx context.Context, c *daemon.Child) error {
	for ctx.Err() == nil {
		if err := s.recover(); err != nil {
			return err
		}
		j, err := s.first("new")
		if err != nil {
			return err
		}
		if j == nil {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(lookEvery):
				continue
			}
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
	}
	return nil
}

// run makes one attempt. The error is one of the spool; that the work has failed is none.
func (s *spool) run(ctx context.Context, j *job) error {
	if err := s.move(j, "cur", j.tries+1, time.Now()); err != nil {
		return err
	}
	result, err := perform(ctx, j)
	switch cause := context.Cause(ctx); {
	case err == nil:
		return s.finish(j, "done", ".result", result)
	case errors.Is(cause, daemon.ErrStopping) || errors.Is(cause, daemon.ErrEvicted):
		return s.move(j, "new", j.tries-1, time.Now()) // no fault of the job
	}
	return s.retry(j, err)
}

// perform does what the first line of a job says with the rest of it: your work goes here. A job may be done twice, so what it
// does should bear that.
func perform(ctx context.Context, j *job) (result string, err error) {
	text, err := io.ReadAll(j.f)
	if err != nil {
		return "", err
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	switch kind, arg, _ := strings.Cut(first, " "); kind {
	case "words":
		return strconv.Itoa(len(strings.Fields(rest))), nil
	case "sleep":
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
	case "fail":
		if n, err := strconv.Atoi(arg); err != nil || j.tries <= n {
			return "", fmt.Errorf("it is to fail %s times", arg)
		}
		return "failed " + arg + " times", nil
	}
	return "", fmt.Errorf("kind of work %q: want words, sleep or fail", first)
}
