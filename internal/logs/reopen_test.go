package logs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"gopkg.in/natefinch/lumberjack.v2"
)

func TestReopenAfterRename(t *testing.T) {
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{}, 0)
	mustWrite(t, f, "one\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "two\n") // logrotate has not told us yet
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "three\n")
	if got := content(t, path+".1"); got != "one\ntwo\n" {
		t.Errorf("the old file says %q", got)
	}
	if got := content(t, path); got != "three\n" {
		t.Errorf("the new file says %q", got)
	}
	// logrotate's "create" makes the new file itself.
	if err := errors.Join(os.Rename(path, path+".2"), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "four\n")
	if got := content(t, path); got != "four\n" {
		t.Errorf("the newest file says %q", got)
	}
}

func TestReopenAfterRemove(t *testing.T) {
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{}, 0)
	mustWrite(t, f, "one\n")
	if err := errors.Join(os.Remove(path), f.Reopen()); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "two\n")
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm()&0o137 != 0 || content(t, path) != "two\n" {
		t.Errorf("mode %v (%v), says %q", st.Mode(), err, content(t, path))
	}
}

func TestReopenFailureKeepsTheOldFile(t *testing.T) {
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{}, 0)
	mustWrite(t, f, "one\n")
	if err := errors.Join(os.Rename(path, path+".1"), os.Symlink("/dev/null", path)); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want ErrUnsafe", err)
	}
	mustWrite(t, f, "two\n")
	if got := content(t, path+".1"); got != "one\ntwo\n" {
		t.Errorf("the old file says %q", got)
	}
}

// Reopen leaks neither descriptors nor goroutines; lumberjack leaves one goroutine for each Logger.
func TestReopenLeaksNothing(t *testing.T) {
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{Plain: true}, 0)
	f.complaints.w = io.Discard
	mustWrite(t, f, "one\n")
	count := func() (fds, gos int) { // of the log only: lumberjack reads the directory in the background
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range all {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, path) {
				fds++
			}
		}
		return fds, runtime.NumGoroutine()
	}
	fds, gos := count()
	for i := range 100 {
		if i%2 == 0 {
			os.Remove(path)
		}
		if err := f.Reopen(); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, f, "x\n")
	}
	if fds2, gos2 := count(); fds != 2 || fds2 != 2 || gos2 > gos {
		t.Errorf("descriptors %d then %d, goroutines %d then %d", fds, fds2, gos, gos2)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if fds3, _ := count(); fds3 != 0 {
		t.Errorf("descriptors %d, after Close %d", fds, fds3)
	}
	if _, err := f.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if err := f.Reopen(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Reopen after Close: %v", err)
	}
}

// If lumberjack cannot open the file it renames it and opens another one. That one must not stay.
func TestFileMovedByLumberjack(t *testing.T) {
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{}, 0)
	f.complaints.w = io.Discard
	mustWrite(t, f, "one\n")
	good := f.lj
	f.lj = &lumberjack.Logger{Filename: path + "/not/a/directory"}
	if err := errors.Join(os.Rename(path, path+".moved"), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("lost\n")); err == nil || f.Failed() != 1 {
		t.Fatalf("got %v, %d counted", err, f.Failed())
	}
	good.Close()
	f.lj = good
	mustWrite(t, f, "two\n")
	if got := content(t, path); got != "two\n" {
		t.Errorf("the log says %q", got)
	}
	if _, err := Open(path, Rotate{}); !errors.Is(err, ErrInUse) {
		t.Errorf("the new file is not locked: %v", err)
	}
}
