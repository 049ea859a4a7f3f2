package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOpenAppends(t *testing.T) {
	dir := filepath.Join(scratch(t), "made")
	path := filepath.Join(dir, "error.log")
	old := unix.Umask(0)
	f, err := Open(path, Rotate{})
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, f, "one\n")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{dir: 0o750 | os.ModeDir, path: 0o640} {
		if st, err := os.Stat(name); err != nil || st.Mode() != want {
			t.Errorf("%s: mode %v (%v), want %v", name, st.Mode(), err, want)
		}
	}
	f = open(t, path, Rotate{}, 0)
	if f.Path() != path {
		t.Errorf("Path %q", f.Path())
	}
	mustWrite(t, f, "two\n")
	if got := content(t, path); got != "one\ntwo\n" {
		t.Errorf("the log says %q", got)
	}
	f.Close()
	f = open(t, path, Rotate{Plain: true}, 9) // what is there counts
	mustWrite(t, f, "three\n")
	if got := content(t, path); got != "three\n" {
		t.Errorf("after a restart near the limit the log says %q", got)
	}
	if _, err := Open(filepath.Join(dir, "no", "such", "x.log"), Rotate{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("two levels missing: %v, want ErrNotExist", err)
	}
}

func TestRelativeLog(t *testing.T) {
	dir := scratch(t)
	t.Chdir(dir)
	f := open(t, "error.log", Rotate{Plain: true}, 4)
	t.Chdir("/")
	mustWrite(t, f, "one\n")
	mustWrite(t, f, "two\n")
	if got := content(t, filepath.Join(dir, "error.log")); got != "two\n" {
		t.Errorf("the log says %q", got)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small tmpfs")
	}
	dir := scratch(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "error.log")
	f := open(t, path, Rotate{}, 0)
	var said bytes.Buffer
	f.complaints.w = &said
	now := time.Now()
	f.now = func() time.Time { return now }

	var want strings.Builder
	var failed uint64
	write := func(i int) error {
		line := fmt.Sprintf("line %04d %s\n", i, strings.Repeat("z", 1000))
		n, err := io.WriteString(f, line)
		if err == nil {
			want.WriteString(line)
			return nil
		}
		failed++
		if !errors.Is(err, unix.ENOSPC) || n != 0 {
			t.Fatalf("line %d: %d, %v, want ENOSPC", i, n, err)
		}
		return err
	}
	for i := range 100 {
		write(i)
	}
	if failed < 60 || f.Failed() != failed {
		t.Errorf("%d writes failed, counted %d", failed, f.Failed())
	}
	if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "write log "+path+": no space left on device") {
		t.Errorf("told %q, want one line", got)
	}
	now = now.Add(complainEvery)
	write(100)
	if got := said.String(); !strings.Contains(got, fmt.Sprintf("(and %d more errors since the last report)\n", failed-2)) {
		t.Errorf("told %q", got)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	for i := 101; i < 110; i++ {
		if err := write(i); err != nil {
			t.Error(err)
		}
	}
	if got := content(t, path); got != want.String() {
		t.Errorf("the log has %d bytes, want %d; ends %q", len(got), want.Len(), got[max(0, len(got)-30):])
	}
}

func TestStd(t *testing.T) {
	var b bytes.Buffer
	s := Std(&b)
	mustWrite(t, s, "one\n")
	if err := errors.Join(s.Reopen(), s.Close()); err != nil {
		t.Error(err)
	}
	mustWrite(t, s, "last word\n")
	if b.String() != "one\nlast word\n" {
		t.Errorf("got %q", b.String())
	}
}
