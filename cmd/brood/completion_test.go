package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// A child that has no process id yet is not completed: 0 would name another one, by its slot.
func TestCompleteChildBeingBorn(t *testing.T) {
	dir := t.TempDir()
	b, err := scoreboard.Create(filepath.Join(dir, control.BoardName), scoreboard.Identity{Name: "test"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Remove()
	for slot := range 2 {
		if err := b.Bear(slot, scoreboard.Serve, 1, "start", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.SetPID(0, 4720); err != nil {
		t.Fatal(err)
	}
	all, _ := completeChild(nil, []string{dir}, "")
	if len(all) != 1 || !strings.HasPrefix(string(all[0]), "4720\t") {
		t.Errorf("completed are %q", all)
	}
}
