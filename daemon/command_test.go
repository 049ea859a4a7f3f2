package daemon_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// forks is lines with a parent that runs commands all the time.
var forks = scenario("forks", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.AfterInit = runCommands
	return cfg
})

// runCommands runs commands in the parent as long as it lives, and notes a status that is not the command's own.
func runCommands(*daemon.Parent) error {
	note(event{What: "command", Text: runCommand(3)})
	go func() {
		for n := 0; ; n++ {
			if text := runCommand(n % 50); text != "" {
				note(event{What: "wrong", Text: text})
			}
			if n%20 == 0 {
				note(event{What: "twenty"})
			}
		}
	}()
	return nil
}

// runCommand runs a command that exits with a status, and returns what is wrong with what is heard of it.
func runCommand(status int) string {
	out, err := exec.Command("sh", "-c", fmt.Sprintf("echo hello; exit %d", status)).Output()
	if string(out) != "hello\n" {
		return fmt.Sprintf("it writes %q, %v", out, err)
	}
	var exit *exec.ExitError
	switch {
	case status == 0 && err == nil:
	case errors.As(err, &exit) && exit.ExitCode() == status:
	default:
		return fmt.Sprintf("status %d: %v", status, err)
	}
	return ""
}

// B10: commands that the user's code runs in the parent get their own exit status, while children die all the time.
func TestParentRunsCommands(t *testing.T) {
	t.Parallel()
	s := start(t, forks, "BROOD_PREFORK=4")
	const deaths = 40
	for s.board().Died < deaths {
		died := s.board().Died
		for _, c := range s.serving() {
			s.signal(syscall.SIGKILL, c.PID)
		}
		s.await("deaths", func(b *scoreboard.Snapshot) bool { return b.Died >= died+4 })
	}
	enough := len(s.eventsOf("twenty", "")) + 4
	eventually(t, "more commands", func() bool { return len(s.eventsOf("twenty", "")) >= enough })
	if e := s.event("command", ""); e.Text != "" {
		t.Errorf("in AfterInit: %s", e.Text)
	}
	for _, e := range s.eventsOf("wrong", "") {
		t.Error(e.Text)
	}
	if log := s.log(); strings.Contains(log, "no child processes") {
		t.Error("an exit status has been stolen")
	}
}
