package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// hooks notes each hook, and does what the variable named like a hook says: fail or panic.
var hooks = scenario("hooks", func() daemon.Config {
	note(event{What: "before Run"})
	act := func(hook string) error {
		note(event{What: hook})
		switch os.Getenv(hook) {
		case "fail":
			return errors.New("no luck")
		case "panic":
			panic("no luck")
		}
		return nil
	}
	cfg := everywhere(func(ctx context.Context, c *daemon.Child) error {
		note(event{What: "MainLoop", Slot: c.Slot(), Text: fmt.Sprint(c.Generation())})
		defer note(event{What: "MainLoop ends"})
		return lineLoop(ctx, c)
	})
	cfg.AfterInit = func(*daemon.Parent) error { return act("AfterInit") }
	cfg.ChildInit = func(*daemon.Child) error { return act("ChildInit") }
	cfg.ChildFinish = func(*daemon.Child) { act("ChildFinish") }
	return cfg
})

func TestHooksInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, hooks)
	parent := s.board().PID
	children := s.serving()
	pid, _ := askWho(t, s.dial("tcp4"), "gate job")
	s.event("begin", "job")
	s.signal(syscall.SIGTERM, parent)
	s.event("MainLoop", "")
	// ChildFinish waits for the last job.
	eventually(t, "the other child to finish", func() bool { return len(s.eventsOf("ChildFinish", "")) == 1 })
	if e := s.event("ChildFinish", ""); e.PID == pid {
		t.Error("ChildFinish while a job runs")
	}
	s.open("job")
	if s.over(patience); !s.cmd.ProcessState.Success() {
		t.Errorf("the parent: %v", s.cmd.ProcessState)
	}

	// What stands before Run happens in every process, and the parent is ready before the first child is born.
	all := linesOf[event](s, "events")
	if len(all) < 2 || all[0].What != "before Run" || all[0].PID != parent || all[1].What != "AfterInit" || all[1].PID != parent {
		t.Fatalf("it begins with %+v", all[:min(len(all), 2)])
	}
	for _, c := range children {
		var did []string
		for _, e := range all {
			if e.PID == c.PID {
				did = append(did, e.What)
				if e.PPID != parent {
					t.Errorf("%s in a child of %d, want of %d", e.What, e.PPID, parent)
				}
				if e.What == "MainLoop" && (e.Slot != c.Slot || e.Text != "1") {
					t.Errorf("child of slot %d is told slot %d, generation %s", c.Slot, e.Slot, e.Text)
				}
			}
		}
		want := []string{"before Run", "ChildInit", "MainLoop", "MainLoop ends", "ChildFinish"}
		if c.PID == pid {
			want = slices.Insert(want, 3, "begin", "end")
		}
		if !slices.Equal(did, want) {
			t.Errorf("child %d did %q, want %q", c.PID, did, want)
		}
	}
	if others := slices.DeleteFunc(all, func(e event) bool {
		return e.PID == parent || slices.ContainsFunc(children, func(c scoreboard.Child) bool { return c.PID == e.PID })
	}); len(others) > 0 || len(s.eventsOf("AfterInit", "")) != 1 {
		t.Errorf("done elsewhere, or twice: %+v", others)
	}
}

// A hook that cannot do its work ends the start with an error that names it.
func TestHooksFail(t *testing.T) {
	for _, c := range []struct{ hook, how, want string }{
		{"AfterInit", "fail", "AfterInit: no luck"},
		{"AfterInit", "panic", "AfterInit panicked: no luck"},
		{"ChildInit", "fail", "ChildInit: no luck"},
		{"ChildInit", "panic", "ChildInit panicked: no luck"},
	} {
		t.Run(c.hook+" "+c.how, func(t *testing.T) {
			t.Parallel()
			s := launch(t, hooks, c.hook+"="+c.how)
			if !s.over(patience) {
				t.Fatal("it runs")
			}
			if code := s.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit status %d", code)
			}
			if !strings.Contains(s.log(), c.want) {
				t.Errorf("nothing says %q", c.want)
			}
			if entries, _ := os.ReadDir(s.path("run")); len(entries) > 0 {
				t.Errorf("left in the run directory: %v", entries)
			}
			if _, err := os.Lstat(s.path("socket")); err == nil {
				t.Error("the Unix socket is left")
			}
		})
	}
}

// At the end it is too late for an error to change anything, but it is told.
func TestHookChildFinishPanics(t *testing.T) {
	t.Parallel()
	s := start(t, hooks, "ChildFinish=panic")
	s.stop(syscall.SIGTERM)
	if n := strings.Count(s.log(), "ChildFinish panicked: no luck"); n != 2 {
		t.Errorf("told %d times, want once for each child", n)
	}
}

// Unfit listeners are refused where they are asked for.
var listening = scenario("listening", func() daemon.Config {
	return daemon.Config{
		Listen:   []string{"127.0.0.1:0"},
		MainLoop: lineLoop,
		AfterInit: func(p *daemon.Parent) error {
			p.Logger().Info("from AfterInit")
			first, err := p.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				return err
			}
			_, err = p.Listen("tcp", first.String())
			note(event{What: "taken", Text: fmt.Sprint(err)})
			_, err = p.Listen("udp", "127.0.0.1:0")
			note(event{What: "udp", Text: fmt.Sprint(err)})
			addr, err := p.Listen("unix", sitePath("late"))
			note(event{What: "unix", Text: fmt.Sprint(addr, err)})
			return nil
		},
	}
})

func TestParentListen(t *testing.T) {
	t.Parallel()
	s := start(t, listening)
	for _, c := range []struct{ what, want string }{
		{"taken", "address already in use"},
		{"udp", "udp"},
		{"unix", s.path("late") + " <nil>"},
	} {
		if e := s.event(c.what, ""); !strings.Contains(e.Text, c.want) {
			t.Errorf("%s: %q, want %q", c.what, e.Text, c.want)
		}
	}
	addrs := strings.Fields(s.board().Listen)
	if len(addrs) != 3 || addrs[2] != s.path("late") {
		t.Fatalf("it listens on %q", addrs)
	}
	for i, a := range addrs {
		conn, err := net.Dial([]string{"tcp", "tcp", "unix"}[i], a)
		if err != nil {
			t.Fatal(err)
		}
		askWho(t, conn, "who")
		conn.Close()
	}
	if !strings.Contains(s.log(), "from AfterInit") {
		t.Error("what AfterInit logs is lost")
	}
	s.stop(syscall.SIGTERM)
	if _, err := os.Lstat(s.path("late")); err == nil {
		t.Error("the Unix socket is left")
	}
}
