package daemon

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/reload"
)

// writeProgram makes a file that may be executed.
func writeProgram(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// What happens to the program between opening it and the last look at it is noticed: what is executed is what was
// fingerprinted, and what lies at the path. B33
func TestOpenProgramMoving(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"nothing": func(*testing.T, string) {},
		"replaced by the same": func(t *testing.T, path string) {
			if err := os.Rename(writeProgram(t, path+".new", "one"), path); err != nil {
				t.Fatal(err)
			}
		},
		"removed": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeProgram(t, filepath.Join(t.TempDir(), "prog"), "one")
			p, err := openProgram(path, func(int) error { change(t, path); return nil })
			if name == "nothing" {
				want, _ := reload.FingerprintOf(path)
				if err != nil || p.print != want.String() {
					t.Fatalf("%+v, %v; want %s", p, err, want)
				}
				p.close()
				return
			}
			if !errors.Is(err, reload.ErrMoving) {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
	path := writeProgram(t, filepath.Join(t.TempDir(), "prog"), "one")
	refusal := errors.New("not this one")
	if _, err := openProgram(path, func(int) error { return refusal }); err != refusal {
		t.Errorf("not trusted: %v", err)
	}
}

// A program that is being written is waited for, but not for ever, and not by a daemon that has ended. B33
func TestPinProgramWaits(t *testing.T) {
	path := writeProgram(t, filepath.Join(t.TempDir(), "prog"), "one")
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if !reload.Writing(path) {
		t.Skip("this file system does not tell who is writing")
	}
	var log strings.Builder
	p := &Parent{program: path, log: slog.New(slog.NewTextHandler(&log, nil)), done: make(chan struct{})}
	p.cfg.StartTimeout = 3 * pinEvery
	begun := time.Now()
	_, err = p.pinProgram(p.now(), true)
	if after := time.Since(begun); !errors.Is(err, errWriting) || !strings.Contains(err.Error(), "for more than 150ms") || after < p.cfg.StartTimeout {
		t.Errorf("after %v: %v", after, err)
	}
	if n := strings.Count(log.String(), "waiting for the program to be whole"); n != 1 {
		t.Errorf("the log says %d times that it waits:\n%s", n, &log)
	}

	p.cfg.StartTimeout = time.Hour
	pinned := make(chan *program)
	go func() {
		prog, err := p.pinProgram(p.now(), true)
		if err != nil {
			t.Error(err)
		}
		pinned <- prog
	}()
	select {
	case <-pinned:
		t.Fatal("it is pinned while it is being written")
	case <-time.After(3 * pinEvery):
	}
	if _, err := w.WriteString(" and two"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	prog := <-pinned
	if want, _ := reload.FingerprintOf(path); prog.print != want.String() {
		t.Errorf("pinned as %s, want %s", prog.print, want)
	}
	prog.close()

	w, err = os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	close(p.done)
	if _, err := p.pinProgram(p.now(), true); !errors.Is(err, errWriting) {
		t.Errorf("at the end: %v", err)
	}
}

func TestLookUpOwners(t *testing.T) {
	for name, want := range map[string]uint32{"root": 0, "4711": 4711, "0": 0} {
		if got, err := lookUpOwners(name); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s is %v, %v", name, got, err)
		}
	}
	if got, err := lookUpOwners(""); got != nil || err != nil {
		t.Errorf("nobody is %v, %v", got, err)
	}
	for _, name := range []string{"nobody-of-that-name", "-1", "4294967295"} {
		if got, err := lookUpOwners(name); err == nil || !strings.Contains(err.Error(), `TrustedOwner is "`+name+`"`) {
			t.Errorf("%s is %v, %v", name, got, err)
		}
	}
}
