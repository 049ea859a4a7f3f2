package reload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// copyOf is a file that is copied slowly.
type copyOf struct {
	t *testing.T
	f *os.File
	p *pace
}

func begin(t *testing.T, path string, mode os.FileMode) copyOf {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	try(t, err)
	return copyOf{t, f, new(pace)}
}

func (c copyOf) write(n int) {
	c.t.Helper()
	_, err := c.f.Write(bytes.Repeat([]byte{'x'}, n))
	try(c.t, err)
}

// steadily writes a chunk at a time, more often than Settle, for a duration.
func (c copyOf) steadily(d time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(quick / 5) {
		c.write(10 << 10)
		c.p.beat()
	}
}

// A slow copy goes on for longer than MaxSettle and is reported only when it is whole. B33
func TestSlowCopy(t *testing.T) {
	t.Parallel()
	blind := linux
	blind.writers = func(string) writing { return unknown } // as for a file of another user
	tests := map[string]struct {
		k     kernel
		mode  os.FileMode
		pause bool
		poll  time.Duration
	}{
		"program":                   {k: linux, mode: 0o755},
		"program, with pauses":      {k: linux, mode: 0o755, pause: true},
		"program, polled":           {k: deafKernel(), mode: 0o755, pause: true, poll: quick},
		"program of another user":   {k: blind, mode: 0o755},
		"no program":                {k: linux, mode: 0o644},
		"no program, polled":        {k: deafKernel(), mode: 0o644, poll: quick},
		"program with mode at last": {k: linux, mode: 0o600},
	}
	for name, tt := range tests {
		for _, how := range []string{"in place", "unlinked"} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				if tt.pause {
					needLeases(t)
				}
				patiently(t, func(pace *pace) error {
					path := filepath.Join(t.TempDir(), "app")
					old := tt.mode
					if name == "program with mode at last" {
						old = 0o755
					}
					writeMode(t, path, "old", old)
					p := watchOn(t, Set{Files: []string{path}, MaxSettle: 3 * quick, Poll: tt.poll}, tt.k)
					pace.beat()
					if how == "unlinked" {
						try(t, os.Remove(path))
					}
					c := begin(t, path, tt.mode)
					c.p = pace
					for range 3 {
						c.steadily(3 * quick)
						if tt.pause {
							p.silent()
						}
					}
					c.write(1)
					pace.beat()
					if tt.pause {
						pace.worst = 0 // the lease alone can tell then, whatever the pace
					}
					if len(p.w.out) != 0 {
						return errors.New("reported before it was whole")
					}
					try(t, c.f.Close())
					try(t, os.Chmod(path, old))
					p.once(path)
					return nil
				})
			})
		}
	}
}

// needLeases skips a test where the kernel does not tell whether a file is being written.
func needLeases(t *testing.T) {
	t.Helper()
	if leaseProbe(write(t, filepath.Join(t.TempDir(), "f"), "")) == unknown {
		t.Skip("this file system gives no leases")
	}
}

// deafKernel has inotify but hears nothing, like a network file system.
func deafKernel() kernel {
	k := linux
	k.add = func(*fsnotify.Watcher, string) error { return nil }
	return k
}

// A program that stays open for writing is warned about once, and does not keep other files back.
func TestStaysOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := writeMode(t, filepath.Join(dir, "app"), "old", 0o755)
	needLeases(t)
	conf := write(t, filepath.Join(dir, "conf"), "old")
	var log diary
	p := watch(t, Set{Files: []string{app, conf}, MaxSettle: 3 * quick, Logger: log.logger()})
	c := begin(t, app, 0o755)
	c.write(10)
	write(t, conf, "newer")
	p.once(conf)
	p.silent()
	log.only(t, app)
	try(t, c.f.Close())
	p.once(app)
	log.only(t, "still open for writing")
}

// Writers through a mapping send no events at all.
func TestMappedWriter(t *testing.T) {
	t.Parallel()
	app := writeMode(t, filepath.Join(t.TempDir(), "app"), "old!", 0o755)
	needLeases(t)
	p := watch(t, Files(app))
	f, err := os.OpenFile(app, os.O_RDWR, 0)
	try(t, err)
	data, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	try(t, err)
	try(t, f.Truncate(8)) // the one event
	try(t, f.Close())
	p.silent()
	copy(data, "new!")
	p.silent()
	try(t, unix.Munmap(data))
	p.once(app)
}

// A program that is missing is no change, whether for a moment or for long.
func TestMissingProgram(t *testing.T) {
	t.Parallel()
	for _, poll := range []time.Duration{-1, quick} {
		t.Run(fmt.Sprint("poll ", poll), func(t *testing.T) {
			t.Parallel()
			app := writeMode(t, filepath.Join(t.TempDir(), "app"), "old", 0o755)
			p := watch(t, Set{Files: []string{app}, Poll: poll})
			try(t, os.Remove(app))
			time.Sleep(19 * time.Millisecond) // as measured for go build across file systems
			writeMode(t, app, "new", 0o755)
			p.once(app)

			try(t, os.Remove(app))
			p.silent()
			time.Sleep(retryLost)
			p.silent()
			writeMode(t, app, "new", 0o755) // back with the same content: B36
			p.silent()
			try(t, os.Remove(app))
			p.silent()
			mkdir(t, app) // something else in its place is no program either
			p.silent()
			try(t, os.Remove(app))
			writeMode(t, app, "newer", 0o755)
			p.once(app)
		})
	}
}

// The go command builds over a running program: by renaming, and by unlink, create and copy if its temporary directory is
// on another file system; one of the two is. B31 B33
func TestGoBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs")
	}
	src := t.TempDir()
	write(t, filepath.Join(src, "go.mod"), "module app\n\ngo 1.26\n")
	write(t, filepath.Join(src, "main.go"), `package main

import "os"

var version = "none"

func main() {
	os.Stdout.WriteString(version + "\n")
	os.Stdin.Read(make([]byte, 1))
}
`)
	build := func(t *testing.T, tmp, app, version string) {
		t.Helper()
		cmd := exec.Command("go", "build", "-o", app, "-ldflags", "-X main.version="+version, ".")
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0", "TMPDIR="+tmp, "GOTMPDIR=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	for name, tmp := range map[string]string{"in memory": "/dev/shm", "on disk": disk} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(tmp); err != nil {
				t.Skip(err)
			}
			app := filepath.Join(t.TempDir(), "app")
			build(t, tmp, app, "1")
			old := exec.Command(app)
			stdin, err := old.StdinPipe()
			try(t, err)
			var said strings.Builder
			old.Stdout = &said
			try(t, old.Start())
			defer func() { stdin.Close(); old.Wait() }()

			p := watch(t, Files(app))
			build(t, tmp, app, "2")
			p.once(app)
			build(t, tmp, app, "2") // the same build: B36
			p.silent()

			next := exec.Command(app) // whole, and nobody writes it: no ETXTBSY
			out, err := next.Output()
			if err != nil || string(out) != "2\n" {
				t.Errorf("the reported program: %q, %v", out, err)
			}
			build(t, tmp, app, "1") // all of it is in the cache
			p.once(app)
		})
	}
}
