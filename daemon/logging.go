package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/logs"
)

const (
	// logWait is how long a line of a child may wait for a slow disk before it is dropped and counted.
	logWait = time.Second
	// flushTime is how long the logs may take to reach their files at the end.
	flushTime = 2 * time.Second
)

// openLogs opens both logs. Only the parent ever does: two processes that rotate one file lose lines.
func (p *Parent) openLogs() (err error) {
	p.level.begin(p.cfg.LogLevel, p.handed)
	if p.cfg.Logger == nil {
		format := p.cfg.LogFormat
		if p.errors, err = p.openLog(p.cfg.ErrorLog, os.Stderr, logWait, format.dropped); err != nil {
			return fmt.Errorf("error log: %w", err)
		}
		// A child may wait for a slow disk, the loop may not.
		p.plainLog = slog.New(format.handler(p.errors.Hasty(), &p.level))
		p.childLog = slog.New(format.handler(p.errors, nil)).With("source", "child")
	} else {
		p.plainLog = slog.New(levelled{p.cfg.Logger.Handler(), &p.level})
		p.childLog = p.cfg.Logger.With("source", "child")
	}
	p.log = newJournal(p.plainLog, &p.ring)
	switch {
	case p.cfg.AccessLog == "":
	case p.cfg.AccessLog == p.cfg.ErrorLog && p.errors != nil:
		p.access = p.errors // one file has one writer
	default:
		if p.access, err = p.openLog(p.cfg.AccessLog, os.Stdout, logWait, p.cfg.AccessFormat.dropped); err != nil {
			return fmt.Errorf("access log: %w", err)
		}
	}
	return nil
}

// openLog opens a log and puts a queue before it that keeps a slow disk from everybody. dropped makes the line that stands in the
// place of what found no room.
func (p *Parent) openLog(path string, std io.Writer, wait time.Duration, dropped func(n uint64) []byte) (*logs.Writer, error) {
	sink := logs.Std(std)
	if path != "-" {
		f, err := logs.Open(path, p.cfg.LogRotate)
		if err != nil {
			return nil, err
		}
		sink = f
	}
	w := logs.NewWriter(sink, logs.Queue{Wait: wait, Grace: flushTime, Lost: dropped})
	p.onExit(func() { w.Close() })
	return w, nil
}

// reopenLogs opens the files anew, after somebody has moved them away. It waits for what is queued before.
func (p *Parent) reopenLogs() error {
	var err error
	if p.errors != nil {
		err = p.errors.Reopen()
	}
	if p.access != nil && p.access != p.errors {
		err = errors.Join(err, p.access.Reopen())
	}
	return err
}

// flushLogs waits until everything that has been said is in the files.
func (p *Parent) flushLogs(ctx context.Context) error {
	var err error
	if p.errors != nil {
		err = p.errors.Flush(ctx)
	}
	if p.access != nil && p.access != p.errors {
		err = errors.Join(err, p.access.Flush(ctx))
	}
	return err
}

// crashToLog lets the trace of a panic in the parent go to the error log, once there is no launcher to tell it to. A
// daemon in the background has no standard error.
func (p *Parent) crashToLog() {
	if !p.cfg.Daemonize || p.errors == nil {
		return
	}
	f, err := os.OpenFile(p.cfg.ErrorLog, os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		err = debug.SetCrashOutput(f, debug.CrashOptions{})
		f.Close()
	}
	if err != nil {
		p.log.Warn("a crash of the parent would leave no trace", "err", err)
	}
}
