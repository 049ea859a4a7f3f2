package daemon_test

import (
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/daemon"
)

// lateExit is a daemon whose end takes a while.
var lateExit = scenario("late exit", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.Exit = func(error) {
		note(event{What: "Exit"})
		awaitGate(context.Background(), "exit")
	}
	return cfg
})

// B28: a signal that comes when every child is gone already, while the parent still clears up, does not keep it from that.
func TestSignalAtTheVeryEnd(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := start(t, lateExit)
			s.signal(syscall.SIGTERM, s.cmd.Process.Pid)
			s.event("Exit", "")
			s.signal(sig, s.cmd.Process.Pid)
			s.open("exit")
			if s.over(patience); !s.cmd.ProcessState.Success() {
				t.Errorf("the parent: %v", s.cmd.ProcessState)
			}
			if entries, _ := os.ReadDir(s.path("run")); len(entries) > 0 {
				t.Errorf("left in the run directory: %v", entries)
			}
		})
	}
}
