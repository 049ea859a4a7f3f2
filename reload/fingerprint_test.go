package reload

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func fingerprint(t *testing.T, path string) Fingerprint {
	t.Helper()
	f, err := FingerprintOf(path)
	try(t, err)
	return f
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := writeMode(t, filepath.Join(dir, "app"), "one", 0o755)
	first := fingerprint(t, path)
	sum := sha256.Sum256([]byte("one"))
	if first.Size != 3 || first.Exec != 0o111 || first.SHA256 != sum {
		t.Errorf("got %+v", first)
	}
	if want := hex.EncodeToString(sum[:])[:12]; first.String() != want {
		t.Errorf("String %q, want %q", first, want)
	}

	// Neither touch nor copy is another program. B36
	try(t, os.Chtimes(path, epoch, epoch))
	try(t, os.Chmod(path, 0o711))
	if got := fingerprint(t, path); got != first {
		t.Errorf("after a touch: %+v", got)
	}
	if got := fingerprint(t, writeMode(t, filepath.Join(dir, "copy"), "one", 0o755)); got != first {
		t.Errorf("copy: %+v", got)
	}
	try(t, os.Chmod(path, 0o644))
	if got := fingerprint(t, path); got == first {
		t.Error("executable bits do not count")
	}
	try(t, os.Chmod(path, 0o755))
	write(t, path, "two")
	if got := fingerprint(t, path); got == first {
		t.Error("content does not count")
	}

	empty := fingerprint(t, write(t, filepath.Join(dir, "empty"), ""))
	if empty == (Fingerprint{}) || empty.String() == "none" {
		t.Error("an empty file is like no file")
	}
	if got := (Fingerprint{}).String(); got != "none" {
		t.Errorf("zero: %q", got)
	}

	text, err := json.Marshal(first)
	try(t, err)
	var back Fingerprint
	try(t, json.Unmarshal(text, &back))
	if back != first {
		t.Errorf("through JSON: %+v", back)
	}
}

// A pinned program is held by an O_PATH descriptor, which cannot be read, and may have been removed since. B37
func TestFingerprintOfPinned(t *testing.T) {
	t.Parallel()
	path := writeMode(t, filepath.Join(t.TempDir(), "app"), "one", 0o755)
	want := fingerprint(t, path)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	try(t, err)
	defer unix.Close(fd)
	replace(t, path, "two")
	if got := fingerprint(t, fmt.Sprintf("/proc/self/fd/%d", fd)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFingerprintErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := FingerprintOf(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := FingerprintOf(dir); err == nil {
		t.Error("a directory has a fingerprint")
	}
	pipe := filepath.Join(dir, "pipe")
	try(t, unix.Mkfifo(pipe, 0o644))
	if _, err := FingerprintOf(pipe); err == nil { // and does not hang
		t.Error("a pipe has a fingerprint")
	}
}

// A file that is written while it is hashed has no fingerprint.
func TestFingerprintOfMovingFile(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "app"), "one")
	f, st, err := openRegular(path)
	try(t, err)
	defer f.Close()
	write(t, path, "longer")
	if _, err := (found{stamp: st, real: path}).read(t.Context(), true); !errors.Is(err, ErrMoving) {
		t.Errorf("another file than the one that was seen: %v", err)
	}
	if _, err := sha(t.Context(), f, st); !errors.Is(err, ErrMoving) {
		t.Errorf("got %v", err)
	}
}

func TestLeaseProbe(t *testing.T) {
	t.Parallel()
	path := writeMode(t, filepath.Join(t.TempDir(), "app"), "#!/bin/sh\n", 0o755)
	if leaseProbe(path) == unknown {
		t.Skip("this file system gives no leases")
	}
	is := func(want writing, when string) {
		t.Helper()
		// A process that a parallel test forks holds our descriptors for a moment, until it execs.
		got := leaseProbe(path)
		for end := time.Now().Add(deadline); got != want && time.Now().Before(end); got = leaseProbe(path) {
			time.Sleep(time.Millisecond)
		}
		if got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
		for end := time.Now().Add(deadline); Writing(path) != (want == somebody); {
			if time.Now().After(end) {
				t.Fatalf("%s: Writing says %v", when, want != somebody)
			}
			time.Sleep(time.Millisecond)
		}
	}
	is(nobody, "closed")

	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	try(t, err)
	is(somebody, "open for writing")
	try(t, w.Close())
	is(nobody, "closed again")

	// A linker may write through a mapping after it closed the descriptor.
	w, err = os.OpenFile(path, os.O_RDWR, 0)
	try(t, err)
	data, err := unix.Mmap(int(w.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	try(t, err)
	try(t, w.Close())
	is(somebody, "mapped for writing")
	try(t, unix.Munmap(data))

	r, err := os.Open(path)
	try(t, err)
	defer r.Close()
	is(nobody, "open for reading")
	// The lease is given back: a writer that will not wait gets in.
	w, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	try(t, err)
	w.Close()

	try(t, os.Remove(path))
	is(unknown, "missing")
}

func TestStampFresh(t *testing.T) {
	t.Parallel()
	s := stamp{mtime: epoch.UnixNano()}
	for after, want := range map[time.Duration]bool{
		0: true, 1900 * time.Millisecond: true, 2 * time.Second: false, time.Hour: false,
		-time.Second: true, -time.Hour: false, // a clock that is ahead a little, and a file from the future
	} {
		if got := s.fresh(epoch.Add(after)); got != want {
			t.Errorf("looked at %v after mtime: %v", after, got)
		}
	}
}
