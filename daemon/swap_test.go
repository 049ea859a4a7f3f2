package daemon_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/brooddaemon/brood/daemon"
)

// swapped is a daemon whose program becomes another one just before a child of the second generation is started from it.
var swapped = scenario("swapped", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.BeforeSpawn = func(_ *daemon.Parent, _ int, generation uint64) error {
		if generation != 2 {
			return nil
		}
		evil := "#!/bin/sh\ntouch " + sitePath("evil") + "\n"
		if err := os.WriteFile(sitePath("new"), []byte(evil), 0o755); err != nil {
			return err
		}
		return os.Rename(sitePath("new"), sitePath("prog"))
	}
	return cfg
})

// Between the look at a program and its execution somebody puts another one in its place: what was looked at is executed.
func TestReloadExecutesWhatItHasSeen(t *testing.T) {
	t.Parallel()
	s := launchAs(t, swapped, func(s *site) {
		// By another process: nobody that this one starts meanwhile can hold it open for writing (golang/go#22315).
		if out, err := exec.Command("cp", s.cmd.Path, s.path("prog")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s.cmd.Path, s.cmd.Args = s.path("prog"), []string{s.path("prog")}
	}, listen("tcp4")).served()
	if b := s.reload(); b.Generation != 2 || !b.ReloadOK {
		t.Errorf("the reload: generation %d, %s", b.Generation, b.Reload)
	}
	for _, c := range s.serving() {
		if c.Generation != 2 {
			t.Errorf("a child of generation %d", c.Generation)
		}
	}
	if _, err := os.Stat(s.path("evil")); err == nil {
		t.Error("what was put in its place was executed")
	}
}
