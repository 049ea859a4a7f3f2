package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// beatEvery is how often a job says that it works.
const beatEvery = 50 * time.Millisecond

// A heart beats for a job: into a file that is appended to for as long as the job really works. The zero heart does not.
type heart struct{ path string }

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// beatIn sets the directory for heartbeats.
func (s *server) beatIn(dir string) error {
	if dir == "" {
		return nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("heartbeat: %s is not a directory", abs)
	}
	s.beats = abs
	return nil
}

// beat returns the heart of the job with this id. An id becomes a file's name, so it is checked.
func (s *server) beat(id string) (heart, error) {
	if !idPattern.MatchString(id) {
		return heart{}, errors.New("id: want 1 to 64 letters, digits, '_' or '-'")
	}
	if s.beats == "" {
		return heart{}, nil
	}
	return heart{filepath.Join(s.beats, id)}, nil
}

func (h heart) beat() error {
	if h.path == "" {
		return nil
	}
	f, err := os.OpenFile(h.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(".")
	return err
}

// kinds are the ways to work: one listens to its context, one does not, and one is not even in this process.
var kinds = map[string]func(context.Context, time.Duration, heart) error{
	"sleep": sleep,
	"spin":  spin,
	"shell": shell,
}

// sleep waits, and stops as soon as it is told.
func sleep(ctx context.Context, d time.Duration, h heart) error {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if err := h.beat(); err != nil {
			return err
		}
		select {
		case <-end.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// spin computes and never looks up.
func spin(_ context.Context, d time.Duration, h heart) error {
	var last time.Time
	for begun := time.Now(); time.Since(begun) < d; {
		if time.Since(last) >= beatEvery {
			last = time.Now()
			if err := h.beat(); err != nil {
				return err
			}
		}
	}
	return nil
}

// shell leaves the work to other processes, which know nothing of contexts.
func shell(ctx context.Context, d time.Duration, h heart) error {
	const script = `
if [ -n "$2" ]; then (while :; do printf . >>"$2"; sleep 0.05; done) & beat=$!; fi
sleep "$1" & other=$!
sleep "$1"
wait $other
[ -z "$beat" ] || kill $beat`
	cmd := exec.Command("sh", "-c", script, "sh", fmt.Sprintf("%.3f", d.Seconds()), h.path)
	if err := cmd.Run(); err != nil {
		return err
	}
	return ctx.Err()
}
