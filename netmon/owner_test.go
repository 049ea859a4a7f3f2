package netmon

import (
	"os"
	"os/exec"
	"testing"
)

func TestEnding(t *testing.T) {
	d := newFDDir(DefaultFS)
	if d.ending(os.Getpid()) {
		t.Error("this process is alive")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	eventually(t, func() bool { return d.ending(cmd.Process.Pid) })
	cmd.Wait()
	if !d.ending(cmd.Process.Pid) {
		t.Error("a process that does not exist is gone too")
	}
}

func TestEndingStat(t *testing.T) {
	for _, tt := range []struct {
		text   string
		ending bool
	}{
		{"12 (a) S 1 12 12 0 -1 4194304 1 2", false},
		{"12 (a) R 1 12 12 0 -1 4194308 1 2", true}, // on its way out
		{"12 (a) Z 1 12 12 0 -1 4194304 1 2", true},
		{"12 (a) Z", true},
		{"12 (a) Z 1 (b) S 1 12 12 0 -1 0 1 2", false}, // a name like that
		{"12 (a) S 1 12 12 0 -1 x 1 2", false},
		{"12 (a) S 1 12", false},
		{"12 (a) ", false}, {"12 (a)", false}, {"12", false}, {"", false},
	} {
		if got := endingStat([]byte(tt.text)); got != tt.ending {
			t.Errorf("%q: %v", tt.text, got)
		}
	}
}
