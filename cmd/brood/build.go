package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	files "github.com/brooddaemon/brood/reload" // reload is a command here
)

// A builder builds one program again and again, one build at a time, into a directory that nobody else sees.
type builder struct {
	dir  string // private, 0700
	arg  string // the package
	name string
	done chan build

	installed files.Fingerprint // of what lies at path
}

// A build is one attempt.
type build struct {
	asked   bool      // by a change, and not by care
	saved   time.Time // when the change was made
	begun   time.Time
	took    time.Duration
	program files.Fingerprint
	errors  string // of the compiler; empty: it is built
}

// newBuilder makes the private directory. It is where the go command would put its temporary files: the user has seen to
// it that programs may be executed there.
func newBuilder(arg, name string) (*builder, error) {
	dir, err := os.MkdirTemp(os.Getenv("GOTMPDIR"), "brood-dev-") // 0700
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	return &builder{dir: dir, arg: arg, name: name, done: make(chan build, 1)}, err
}

func (b *builder) path() string { return filepath.Join(b.dir, b.name) }
func (b *builder) next() string { return b.path() + ".next" }

// remove removes the directory with everything in it. Compilers that have just been killed may take a moment to be gone.
func (b *builder) remove() error {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := os.RemoveAll(b.dir); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// run builds and posts the result.
func (b *builder) run(ctx context.Context, made build) {
	made.begun = time.Now()
	if err := b.build(ctx); err != nil {
		made.errors = err.Error()
	} else if made.program, err = b.print(); err != nil {
		made.errors = err.Error()
	}
	made.took = time.Since(made.begun)
	b.done <- made
}

func (b *builder) build(ctx context.Context) error {
	// If nothing has changed the go command finds its own work there, and saves itself the linking.
	if err := os.Link(b.path(), b.next()); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// No stamp of version control: a commit is no change of the program, and git need not be asked at every save.
	cmd := goCommand(ctx, "build", "-buildvcs=false", "-o", b.next(), "--", b.arg)
	// What it writes is on the same file system, and goes with the directory even if it is killed.
	cmd.Env = append(os.Environ(), "GOTMPDIR="+b.dir)
	out, err := cmd.CombinedOutput()
	if text := string(bytes.TrimSpace(out)); err != nil && text != "" {
		return errors.New(strings.ReplaceAll(text, "\r", ""))
	}
	return err
}

// print identifies what was built. To read it all is spared if it is what lies there already.
func (b *builder) print() (files.Fingerprint, error) {
	if there, err := os.Stat(b.path()); err == nil {
		if made, err := os.Stat(b.next()); err == nil && os.SameFile(there, made) {
			return b.installed, nil
		}
	}
	return files.FingerprintOf(b.next())
}

// install puts what was built in the place of what was built before: whoever executes that path gets one or the other,
// whole. B33
func (b *builder) install(made build) error {
	if err := os.Rename(b.next(), b.path()); err != nil {
		return err
	}
	b.installed = made.program
	return nil
}
