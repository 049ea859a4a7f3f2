package test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// exitStatus is how a command has exited; -1: it was not even started, or a signal ended it.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// A daemon that is to stop does, however far a reload has come, and tells who waits for the reload.
func TestStopWhileReloading(t *testing.T) {
	t.Parallel()
	const starting = 1 // phase
	for _, stage := range []struct {
		name   string
		soak   string
		defect string
		come   func(board *board, now map[uint64]map[uint64]int) bool // children by generation and phase
	}{
		{"candidate", "600ms", "", func(_ *board, now map[uint64]map[uint64]int) bool { return now[2][starting] == 1 }},
		{"soak", "600ms", "", func(_ *board, now map[uint64]map[uint64]int) bool { return now[2][phaseServing] == 1 }},
		{"steps", "600ms", "", func(_ *board, now map[uint64]map[uint64]int) bool { return now[2][phaseServing] == 3 }},
		{"settling", "30s", "", func(b *board, _ map[uint64]map[uint64]int) bool { return b.generation() == 2 }},
		{"way back", "600ms", "dies-500ms", nil},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(fmt.Sprint(stage.name, sig), func(t *testing.T) {
				t.Parallel()
				s := openSite(t)
				path := filepath.Join(s.dir, "prog")
				if err := (variant{"broken", "A", ""}).deploy(path); err != nil {
					t.Fatal(err)
				}
				// These children take 300 ms to start.
				d, err := s.serve([]string{"BROOD_SOAK=" + stage.soak, "BROOD_AUTO_RELOAD_WHEN=never"}, path, "-prefork", "4", "-break", "init-slow")
				if err != nil {
					t.Fatal(err)
				}
				if err := (variant{"broken", "B", stage.defect}).deploy(path); err != nil {
					t.Fatal(err)
				}
				board := openBoard(t, d)
				cmd := s.command("brood", "reload", d.run)
				var said strings.Builder
				cmd.Stdout, cmd.Stderr = &said, &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				told := "the daemon is stopping: signal " + map[syscall.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT"}[sig]
				if stage.name == "settling" || stage.come == nil {
					// Its first child does a job, and the others follow before its probation is over.
					s.load = startLoad(d.addr + "/")
				}
				if stage.come == nil {
					err, told = cmd.Wait(), "child died right after it was ready"
				} else if werr := eventually(patience, func() error {
					now := map[uint64]map[uint64]int{1: {}, 2: {}}
					for _, p := range board.look() {
						now[p.generation][p.phase]++
					}
					if !stage.come(board, now) {
						return fmt.Errorf("not there yet: %v", now)
					}
					return nil
				}); werr != nil {
					t.Fatal(werr)
				}
				if err := kill(d.pid, sig); err != nil {
					t.Fatal(err)
				}
				if stage.come != nil {
					err = cmd.Wait()
				}
				if exitStatus(err) != 1 || !strings.Contains(said.String(), told) {
					t.Errorf("brood reload: %v: %s", err, &said)
				}
				if err := eventually(patience, func() error {
					if !d.gone() {
						return errors.New("the daemon does not stop")
					}
					return s.empty()
				}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
