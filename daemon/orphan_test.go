package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
)

// stubborn is a daemon whose main loops do not listen to their context.
var stubborn = scenario("stubborn", func() daemon.Config {
	cfg := everywhere(func(ctx context.Context, c *daemon.Child) error {
		c.Ready()
		select {}
	})
	return cfg
})

// killParent ends the parent as nobody can prepare for.
func (s *site) killParent() {
	s.t.Helper()
	s.signal(syscall.SIGKILL, s.cmd.Process.Pid)
	if !s.over(patience) {
		s.t.Fatal("the parent does not die")
	}
}

// B13: a child without work leaves when its parent has died, whatever its main loop is doing.
func TestOrphanIdle(t *testing.T) {
	for _, scenario := range []string{lines, web, stubborn} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			s := start(t, scenario, "BROOD_PREFORK=3")
			s.serving()
			s.killParent()
			died := time.Now()
			eventually(t, "the children to leave", func() bool { return len(s.processes()) == 0 })
			if late := time.Since(died); late > soon {
				t.Errorf("they left after %v", late)
			}
		})
	}
}

// B13: a child with work finishes it.
func TestOrphanBusy(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=3", "BROOD_DRAIN_TIMEOUT=20s")
	busy := s.dial("tcp4")
	pid, _ := askWho(t, busy, "gate job")
	s.killParent()
	eventually(t, "the idle ones to leave", func() bool { return len(s.processes()) == 1 })
	if gone(pid) {
		t.Fatal("the busy one has gone")
	}
	s.open("job")
	if rest, err := io.ReadAll(busy); string(rest) != "bye\n" || err != nil {
		t.Errorf("the client reads %q, %v", rest, err)
	}
	if e := s.event("end", "job"); e.Text != "not cancelled" {
		t.Errorf("the job ends: %s", e.Text)
	}
	eventually(t, "the end of the last", func() bool { return len(s.processes()) == 0 })
}

// B13, B16: a job that goes on for longer than DrainTimeout is ended together with what it has started.
func TestOrphanDeaf(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_DRAIN_TIMEOUT=700ms")
	askWho(t, s.dial("tcp4"), "deaf job")
	eventually(t, "what the job starts", func() bool { return len(s.commands("sleep 1000")) >= 2 })
	died := time.Now()
	s.killParent()
	eventually(t, "the end of all", func() bool { return len(s.processes()) == 0 })
	if early := time.Since(died); early < 700*time.Millisecond {
		t.Errorf("they were gone after %v", early)
	}
}

// The main loop is told why it is to end.
var orphans = scenario("orphans", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		c.Ready()
		<-ctx.Done()
		cause := context.Cause(ctx)
		note(event{What: "cause", Text: fmt.Sprint(errors.Is(cause, daemon.ErrDraining), errors.Is(cause, daemon.ErrParentGone))})
		note(event{What: "words", Text: cause.Error()})
		return nil
	})
})

func TestMainLoopIsToldWhy(t *testing.T) {
	for _, c := range []struct {
		sig         syscall.Signal
		want, words string
	}{
		{syscall.SIGKILL, "true true", "the parent has died"},
		{syscall.SIGTERM, "true false", "signal SIGTERM"},
		{syscall.SIGHUP, "true false", "reload: signal SIGHUP"},
	} {
		t.Run(c.sig.String(), func(t *testing.T) {
			t.Parallel()
			s := start(t, orphans, "BROOD_PREFORK=1")
			s.signal(c.sig, s.board().PID)
			if e := s.event("cause", ""); e.Text != c.want {
				t.Errorf("got %q, want %q", e.Text, c.want)
			}
			if e := s.event("words", ""); !strings.Contains(e.Text, c.words) {
				t.Errorf("got %q, want %q", e.Text, c.words)
			}
		})
	}
}
