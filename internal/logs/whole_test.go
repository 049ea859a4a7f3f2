package logs

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// open opens a log for a test, with a limit in bytes; 0 leaves the limit of r.
func open(t *testing.T, path string, r Rotate, max int64) *File {
	t.Helper()
	f, err := Open(path, r)
	if err != nil {
		t.Fatal(err)
	}
	if max > 0 {
		f.max = max
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func mustWrite(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if n, err := w.Write([]byte(s)); err != nil || n != len(s) {
		t.Fatalf("write %q: %d, %v", s, n, err)
	}
}

// until polls cond, for at most 20 s.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// backups returns the old files of the log at path, oldest first.
func backups(t *testing.T, path string) []string {
	t.Helper()
	ext := filepath.Ext(path)
	names, err := filepath.Glob(strings.TrimSuffix(path, ext) + "-*" + ext + "*")
	if err != nil {
		t.Fatal(err)
	}
	return names // Glob sorts
}

// content returns what an old or the present file says.
func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return string(b)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}

// compressed reports whether all old files are, and the plain ones gone.
func compressed(t *testing.T, path string) bool {
	return !slices.ContainsFunc(backups(t, path), func(s string) bool { return !strings.HasSuffix(s, ".gz") })
}

// wantEveryLine checks that the files hold each line of each writer once, whole, and in its writer's order.
func wantEveryLine(t *testing.T, files []string, writers, lines int) {
	t.Helper()
	next := make([]int, writers)
	for _, name := range files {
		text := content(t, name)
		if text != "" && !strings.HasSuffix(text, "\n") {
			t.Errorf("%s ends in half a line", name)
		}
		for line := range strings.Lines(text) {
			var w, i int
			if _, err := fmt.Sscanf(line, "writer %d line %d", &w, &i); err != nil || line != numbered(w, i) {
				t.Fatalf("%s: a line nobody has written: %q", name, line)
			}
			if i != next[w] {
				t.Fatalf("%s: writer %d: line %d where %d is due", name, w, i, next[w])
			}
			next[w]++
		}
	}
	for w, n := range next {
		if n != lines {
			t.Errorf("writer %d: %d lines, want %d", w, n, lines)
		}
	}
}

func numbered(writer, line int) string {
	return fmt.Sprintf("writer %02d line %04d %s.\n", writer, line, strings.Repeat("x", 20+(writer*7+line)%90))
}

func TestRotationLosesNothing(t *testing.T) { // B51
	const writers, lines, limit = 20, 2000, 32 << 10
	for _, plain := range []bool{true, false} {
		t.Run(fmt.Sprintf("plain=%v", plain), func(t *testing.T) {
			path := filepath.Join(scratch(t), "error.log")
			f := open(t, path, Rotate{Backups: 10000, Plain: plain}, limit)
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range lines {
						if _, err := io.WriteString(f, numbered(w, i)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if !plain {
				until(t, "old files are compressed", func() bool { return compressed(t, path) })
			}
			old := backups(t, path)
			if len(old) < 80 {
				t.Errorf("only %d rotations", len(old))
			}
			files := append(old, path)
			wantEveryLine(t, files, writers, lines)
			for _, name := range files {
				if n := len(content(t, name)); n > limit {
					t.Errorf("%s has %d bytes", name, n)
				}
			}
			if f.Failed() != 0 {
				t.Errorf("%d records failed", f.Failed())
			}
		})
	}
}

// The whole way: pipes, Lines, a Writer, a File that rotates and is reopened all the while.
func TestPipesToRotatedFile(t *testing.T) { // B51
	const writers, lines, limit = 20, 2000, 32 << 10
	path := filepath.Join(scratch(t), "access.log")
	f := open(t, path, Rotate{Backups: 10000, Plain: true}, limit)
	w := NewWriter(f, Queue{Bytes: 64 << 10, Wait: time.Minute})
	var reading, writing sync.WaitGroup
	for i := range writers {
		r, pipe, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		writing.Go(func() {
			defer pipe.Close()
			var text []byte
			for n := range lines {
				text = append(text, numbered(i, n)...)
			}
			for len(text) > 0 { // in pieces that know nothing of lines
				n := min(1000+i*77, len(text))
				pipe.Write(text[:n])
				text = text[n:]
			}
		})
		reading.Go(func() {
			defer r.Close()
			var record []byte
			err := Lines(r, 0, func(line []byte) {
				record = append(AppendEscape(record[:0], line), '\n')
				w.Write(record)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	stop := make(chan struct{})
	reopened := make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				reopened <- nil
				return
			default:
			}
			if err := w.Reopen(); err != nil {
				reopened <- err
				return
			}
		}
	}()
	writing.Wait()
	reading.Wait()
	close(stop)
	if err := <-reopened; err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if w.Dropped() != 0 || w.Failed() != 0 {
		t.Errorf("%d dropped, %d failed", w.Dropped(), w.Failed())
	}
	wantEveryLine(t, append(backups(t, path), path), writers, lines)
}

// scratch is t.TempDir for tests that rotate: lumberjack removes and compresses on a goroutine of its own, which nobody can
// wait for, and may make a file while the directory is being removed.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "logs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			if err := os.RemoveAll(dir); err == nil {
				return
			} else if time.Now().After(end) {
				t.Error(err)
				return
			}
		}
	})
	return dir
}
