package test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whatever ends it, nothing is left behind.
func TestDevStops(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		group  bool // as Ctrl-C and a terminal that goes away do
	}{
		{"interrupt of the group", syscall.SIGINT, true}, {"interrupt", syscall.SIGINT, false},
		{"termination", syscall.SIGTERM, false}, {"hangup of the group", syscall.SIGHUP, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := openWorkshop(t)
			w.start()
			w.answers("main=one")
			w.stopped(c.signal, c.group)
			if code := w.dev.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit status %d, want 0", code)
			}
		})
	}
}

// stopped sends a signal, waits for the end, and looks whether anything is left.
func (w *workshop) stopped(s syscall.Signal, group bool) {
	w.tb.Helper()
	pid := w.dev.Process.Pid
	if group {
		pid = -pid
	}
	if err := syscall.Kill(pid, s); err != nil {
		w.tb.Fatal(err)
	}
	select {
	case <-w.exited:
	case <-time.After(patience):
		w.tb.Fatal("it does not stop")
	}
	if err := w.leftovers(); err != nil {
		w.tb.Error(err)
	}
}

// So does a reader of its output who leaves.
func TestDevReaderLeaves(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	r, side, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.stderr = side
	w.start()
	side.Close()
	w.answers("main=one")
	r.Close()
	w.edit("main.go", `"one"`, `"two"`)
	select {
	case <-w.exited:
	case <-time.After(slow):
		t.Fatal("it goes on")
	}
	if err := w.leftovers(); err != nil {
		t.Error(err)
	}
}

// Ctrl-C in the middle of a build.
func TestDevStopsBuilding(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.start()
	w.answers("main=one")
	before := w.idle()
	w.write("../hook", "sleep 1000\n")
	w.edit("main.go", `"one"`, `"two"`)
	w.building(before)
	w.stopped(syscall.SIGINT, true)
	if strings.Contains(w.out.String(), "cannot build") {
		t.Error("a build that was interrupted is told as a failure")
	}
}

// A program that does not stop is killed when its time is over, with its children.
func TestDevKills(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.edit("main.go", "flag.Parse()", "flag.Parse(); if len(os.Args) > 0 { signal.Ignore(syscall.SIGTERM); println(\"deaf\"); select {} }")
	w.edit("main.go", "\t\"os\"\n", "\t\"os\"\n\t\"os/signal\"\n\t\"syscall\"\n\t\"time\"\n")
	w.edit("main.go", "select {}", "time.Sleep(time.Hour)")
	w.devFlags = []string{"--timeout", "100ms"}
	w.start()
	w.says(1, "deaf")
	w.stopped(syscall.SIGTERM, false)
	w.says(1, "has not stopped within 100ms and is killed")
	if code := w.dev.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
}

// If brood dev itself is killed the program does not outlive it.
func TestDevKilled(t *testing.T) { // B13
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.start()
	w.answers("main=one")
	if err := w.dev.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.eventually(w.empty)
}
