package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A rotation mends it as well.
func TestRotationAfterRemove(t *testing.T) {
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{Plain: true}, 4)
	mustWrite(t, f, "one\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "two\n")
	if got := content(t, path); got != "two\n" || len(backups(t, path)) != 0 {
		t.Errorf("the log says %q, old files %v", got, backups(t, path))
	}
}

// With the clock at rest, or set back, no old file is put over another.
func TestRotationsInOneMillisecond(t *testing.T) { // B51 B52
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{Backups: -1, MaxAgeDays: -1, Plain: true}, 1)
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f.now = func() time.Time { return noon }
	for i := range 50 {
		mustWrite(t, f, fmt.Sprintf("%d\n", i))
	}
	old := backups(t, path)
	if len(old) != 49 {
		t.Fatalf("%d old files, want 49", len(old))
	}
	for i, name := range append(old, path) {
		if got, want := content(t, name), fmt.Sprintf("%d\n", i); got != want {
			t.Errorf("%s says %q, want %q", name, got, want)
		}
	}
	// A name that lumberjack has freed by removing the oldest is not given to the newest.
	if err := os.Remove(old[0]); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "new\n")
	if now := backups(t, path); now[0] != old[1] || content(t, now[len(now)-1]) != "49\n" {
		t.Errorf("the old files are out of order: %v", now)
	}
	// A compressed file of that name counts as well.
	gz := filepath.Join(filepath.Dir(path), "error-2026-03-01T11-00-00.000.log.gz")
	if err := os.WriteFile(gz, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	noon = noon.Add(-time.Hour)
	mustWrite(t, f, "50\n")
	if _, err := os.Lstat(strings.TrimSuffix(gz, "000.log.gz") + "001.log"); err != nil {
		t.Error(err)
	}
}

func TestOldFilesAreKeptInNumber(t *testing.T) {
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{Backups: 3}, 10)
	for i := range 40 {
		mustWrite(t, f, fmt.Sprintf("line %03d\n", i))
	}
	until(t, "three old files remain, compressed", func() bool {
		return len(backups(t, path)) == 3 && compressed(t, path)
	})
	for i, name := range append(backups(t, path), path) {
		if got, want := content(t, name), fmt.Sprintf("line %03d\n", 36+i); got != want {
			t.Errorf("%s says %q, want %q", name, got, want)
		}
	}
}

func TestRotateDefaults(t *testing.T) {
	for _, c := range []struct {
		r             Rotate
		bytes         int64
		backups, days int
		compress      bool
	}{
		{Rotate{}, 100 << 20, 10, 30, true},
		{Rotate{MaxSizeMB: 3, Backups: 4, MaxAgeDays: 5, Plain: true}, 3 << 20, 4, 5, false},
		{Rotate{MaxSizeMB: -1, Backups: -1, MaxAgeDays: -1}, 0, 0, 0, true},
	} {
		lj := c.r.logger("/x", false)
		if c.r.maxBytes() != c.bytes || lj.MaxBackups != c.backups || lj.MaxAge != c.days || lj.Compress != c.compress {
			t.Errorf("%+v: %d bytes, %+v", c.r, c.r.maxBytes(), lj)
		}
	}
	if (Rotate{}).logger("/x", true).Compress {
		t.Error("compresses in a sticky directory")
	}
}

func TestLongRecordGetsItsOwnFile(t *testing.T) {
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{Plain: true}, 10)
	long := strings.Repeat("y", 1000) + "\n"
	mustWrite(t, f, long)
	mustWrite(t, f, "b\n")
	if old := backups(t, path); len(old) != 1 || content(t, old[0]) != long {
		t.Errorf("old files %v", old)
	}
	if got := content(t, path); got != "b\n" {
		t.Errorf("the log says %q", got)
	}
}

// lumberjack alone would make the new file 0600 if the old one has been removed, and 0644 here would be as wrong.
func TestRotationKeepsModeAndOwner(t *testing.T) {
	path := filepath.Join(scratch(t), "error.log")
	f := open(t, path, Rotate{Plain: true}, 4)
	mustWrite(t, f, "one\n")
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 0, 12345); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "two\n")
	is, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(backups(t, path)) != 1 || os.SameFile(was, is) {
		t.Fatal("it has not rotated")
	}
	gid := func(fi os.FileInfo) uint32 { return fi.Sys().(*syscall.Stat_t).Gid }
	if is.Mode() != was.Mode() || gid(is) != gid(was) {
		t.Errorf("mode %v group %d, before %v %d", is.Mode(), gid(is), was.Mode(), gid(was))
	}
}

// If the file cannot be put aside, it grows; the failure is told once, and tried again after a second only.
func TestFailedRotationLosesNothing(t *testing.T) {
	dir := scratch(t)
	path := filepath.Join(dir, "error.log")
	f := open(t, path, Rotate{Plain: true}, 4)
	var said bytes.Buffer
	f.complaints.w = &said
	now := time.Now()
	f.now = func() time.Time { return now }
	mustWrite(t, f, "one\n")

	// The directory goes, for a while: what is open stays.
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "two\n")
	mustWrite(t, f, "three\n")
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "four\n")
	if got := content(t, path); got != "one\ntwo\nthree\nfour\n" {
		t.Errorf("the log says %q", got)
	}
	if n := strings.Count(said.String(), "rotate log "+path); n != 1 {
		t.Errorf("told %d times: %q", n, said.String())
	}
	now = now.Add(rotatePause)
	mustWrite(t, f, "five\n")
	if old := backups(t, path); len(old) != 1 || content(t, path) != "five\n" {
		t.Errorf("old files %v, the log says %q", old, content(t, path))
	}
	if f.Failed() != 0 {
		t.Errorf("%d records failed", f.Failed())
	}
}

// The new file cannot be made: the old one gets its name back.
func TestRotationUndone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose rules make the new file fail")
	}
	dir := scratch(t)
	path := filepath.Join(dir, "error.log")
	f := open(t, path, Rotate{Plain: true}, 4)
	f.complaints.w = io.Discard
	mustWrite(t, f, "one\n")
	if err := os.Chmod(dir, 0o777); err != nil { // rename works there, but a new log is refused
		t.Fatal(err)
	}
	mustWrite(t, f, "two\n")
	if got := content(t, path); got != "one\ntwo\n" || len(backups(t, path)) != 0 {
		t.Errorf("the log says %q, old files %v", got, backups(t, path))
	}
}
