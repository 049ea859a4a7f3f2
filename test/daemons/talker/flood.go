package main

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/brooddaemon/brood/daemon"
)

// A flood is as many lines as a child can write.
type flood struct {
	lines, size  int
	gate, direct string
	jobs         bool
}

func (f *flood) run(ctx context.Context, c *daemon.Child) error {
	var to io.Writer = c.AccessLog()
	if f.direct != "" {
		file, err := os.OpenFile(f.direct, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		defer file.Close()
		to = file
	}
	for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(f.gate); err == nil {
			break
		}
	}
	text := strings.Repeat("x", f.size-1)
	line := []byte(text + "\n")
	for range f.lines {
		var err error
		if f.jobs {
			err = c.Do(ctx, text, func(context.Context) error { return nil })
		} else {
			_, err = to.Write(line)
		}
		if err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}
