package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/cmd/brood/internal/top"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// A child may write to all of the scoreboard. It cannot have an operator signal a process that is no child, however well
// the board describes it; nor is another one hit that has come into the slot since. B1
func TestActOnStranger(t *testing.T) {
	stranger := exec.Command("sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stranger.Process.Kill() })
	where := target{t.TempDir()}
	board, err := scoreboard.Create(filepath.Join(where.dir, control.BoardName), scoreboard.Identity{Name: "x", PID: 1}, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer board.Remove()
	born := time.Now()
	if err := board.Bear(2, scoreboard.Serve, 1, "start", born); err != nil {
		t.Fatal(err)
	}
	if err := board.SetPID(2, stranger.Process.Pid); err != nil {
		t.Fatal(err)
	}
	s, err := scoreboard.Read(where.board())
	if err != nil || len(s.Children) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	child := s.Children[0]
	for _, c := range []struct {
		name   string
		change func(c *scoreboard.Child)
		want   string
	}{
		{"a stranger", func(*scoreboard.Child) {}, "is no child of this daemon"},
		{"one born before it", func(c *scoreboard.Child) { c.Born = c.Born.Add(-time.Minute) }, "is not in slot 2 any more"},
		{"one of another slot", func(c *scoreboard.Child) { c.Slot = 1 }, "is not in slot 1 any more"},
		{"one that has not begun", func(c *scoreboard.Child) { c.PID = 0 }, "process 0 "},
		{"one that is gone", func(c *scoreboard.Child) { c.PID = 1<<22 - 1 }, "process 4194303 "},
	} {
		about := child
		c.change(&about)
		for _, a := range []top.Action{top.Drain, top.Kill} {
			if err := where.act(a, about); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
		}
	}
	stranger.Process.Signal(syscall.SIGUSR1)
	if err := stranger.Wait(); err == nil || stranger.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGUSR1 {
		t.Errorf("the stranger has ended before: %v", err)
	}
}
