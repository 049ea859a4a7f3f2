package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/daemon"
)

// allHooks notes each hook of the parent, and has the one named by HARM do harm.
var allHooks = scenario("all hooks", func() daemon.Config {
	act := func(hook, text string) error {
		note(event{What: hook, Text: text})
		if os.Getenv("HARM") == hook {
			panic("no luck")
		}
		return nil
	}
	cfg := everywhere(func(ctx context.Context, c *daemon.Child) error {
		note(event{What: "MainLoop", Slot: c.Slot()})
		return lineLoop(ctx, c)
	})
	cfg.BeforeDaemonize = func() error { return act("BeforeDaemonize", "") }
	cfg.AfterInit = func(*daemon.Parent) error { return act("AfterInit", "") }
	cfg.BeforeSpawn = func(_ *daemon.Parent, slot int, generation uint64) error {
		if os.Getenv("HARM") == "refuse" && generation > 1 {
			return errors.New("not now")
		}
		return act("BeforeSpawn", fmt.Sprint(slot, " ", generation))
	}
	cfg.AllReady = func(*daemon.Parent) { act("AllReady", "") }
	cfg.ChildExit = func(x daemon.Exit) {
		act("ChildExit", fmt.Sprint(x.PID, " ", x.Slot, " ", x.Generation, " ", x.Status, " ", x.Signal, " ", x.Cause))
	}
	cfg.IdleLoop = func(*daemon.Parent) { act("IdleLoop", "") }
	cfg.BeforeShutdown = func(*daemon.Parent) { act("BeforeShutdown", "") }
	cfg.Exit = func(err error) { act("Exit", fmt.Sprint(err)) }
	return cfg
})

func TestAllHooksInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, allHooks, "BROOD_IDLE_EVERY=10ms")
	children := s.serving()
	s.event("AllReady", "")
	s.event("IdleLoop", "")
	s.signal(syscall.SIGKILL, children[0].PID)
	want := fmt.Sprint(children[0].PID, " ", children[0].Slot, " 1 -1 killed ")
	if e := s.event("ChildExit", ""); e.Text != want {
		t.Errorf("told %q, want %q", e.Text, want)
	}
	s.serving()
	s.stop(syscall.SIGTERM)
	var did []string
	for _, e := range linesOf[event](s, "events") {
		if e.What == "IdleLoop" || e.What == "MainLoop" {
			continue
		}
		if e.PID != s.cmd.Process.Pid {
			t.Errorf("%s in process %d", e.What, e.PID)
		}
		did = append(did, e.What)
	}
	want2 := []string{
		"AfterInit", "BeforeSpawn", "BeforeSpawn", "AllReady", "ChildExit", "BeforeSpawn", "BeforeShutdown", "Exit",
	}
	// The children that end with the daemon may be told or not: the daemon does not wait for hooks.
	last := slices.Index(did, "BeforeShutdown")
	did = append(did[:last+1:last+1], "Exit")
	// The killed child's successor is started before its death has been told, or after.
	slices.Sort(did[4:6])
	slices.Sort(want2[4:6])
	if !slices.Equal(did, want2) {
		t.Errorf("did %q, want %q", did, want2)
	}
	if e := s.event("Exit", ""); e.Text != "<nil>" {
		t.Errorf("Exit is told %q", e.Text)
	}
}

// A hook that panics is named in the log, and the daemon goes on.
func TestAllHooksPanic(t *testing.T) {
	for _, hook := range []string{"AllReady", "ChildExit", "IdleLoop", "BeforeShutdown", "Exit"} {
		t.Run(hook, func(t *testing.T) {
			t.Parallel()
			s := start(t, allHooks, "HARM="+hook, "BROOD_IDLE_EVERY=50ms")
			s.signal(syscall.SIGKILL, s.serving()[0].PID)
			s.event("ChildExit", "")
			s.event("IdleLoop", "")
			s.serving()
			s.stop(syscall.SIGTERM)
			if log := s.log(); !strings.Contains(log, "hook="+hook) || !strings.Contains(log, "panicked: no luck") {
				t.Errorf("the log does not name %s", hook)
			}
		})
	}
}

// BeforeSpawn may refuse: a reload then fails, and the old children go on.
func TestBeforeSpawnRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, allHooks, "HARM=refuse")
	s.signal(syscall.SIGHUP, s.cmd.Process.Pid)
	eventually(t, "the reload to fail", func() bool { return !s.board().ReloadAt.IsZero() })
	if b := s.board(); b.ReloadOK || b.Generation != 1 || !strings.Contains(b.Reload, "BeforeSpawn: not now") {
		t.Errorf("the scoreboard: %+v", b.Status)
	}
	s.serving()
}
