package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrUnsafe is the cause of an error about a place where root must not write a log, or that is no place for a log at all.
// The text around it names the thing and what is wrong with it.
var ErrUnsafe = errors.New("refused as unsafe")

// ErrInUse is the cause of the error when the file has been opened by Open already, in this process or another.
var ErrInUse = errors.New("another writer has it open")

// place is a checked, created, locked log file.
type place struct {
	file   *os.File // for appending; lumberjack has a descriptor of its own
	info   os.FileInfo
	sticky bool // the directory is one where root trusts only the sticky bit
}

// openPlace opens or creates the file at path and checks what it has opened, and makes its directory if that is missing.
func openPlace(path string, euid int) (p place, err error) {
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return p, err
	}
	defer unix.Close(dir)
	var dst unix.Stat_t
	if err := retry(func() error { return unix.Fstat(dir, &dst) }); err != nil {
		return p, fmt.Errorf("stat directory: %w", err)
	}
	if p.sticky, err = checkDir(&dst, euid); err != nil {
		return p, fmt.Errorf("directory %s %w", filepath.Dir(path), err)
	}

	// O_NONBLOCK is for a fifo that lies there: without it, the open would wait for a reader.
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	var fd int
	err = retry(func() (err error) {
		fd, err = unix.Openat(dir, filepath.Base(path), flags, 0o640)
		return err
	})
	if errors.Is(err, unix.ELOOP) {
		return p, fmt.Errorf("it is a symbolic link (%w): %w", err, ErrUnsafe)
	}
	if errors.Is(err, unix.ENXIO) {
		return p, fmt.Errorf("it is a fifo or a socket (%w): %w", err, ErrUnsafe)
	}
	if err != nil {
		return p, err
	}
	p.file = os.NewFile(uintptr(fd), path)
	if err := p.check(euid); err != nil {
		p.file.Close()
		return place{}, err
	}
	return p, nil
}

// lock makes the file ours among all who call Open. A file system without locks does without.
func (p *place) lock() error {
	err := retry(func() error { return unix.Flock(int(p.file.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return nil
}

func (p *place) check(euid int) (err error) {
	if p.info, err = p.file.Stat(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(int(p.file.Fd()), &st) }); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("it is not a regular file: %w", ErrUnsafe)
	}
	if p.sticky && int(st.Uid) != euid {
		return fmt.Errorf("it belongs to uid %d, in a directory that others may write: %w", st.Uid, ErrUnsafe)
	}
	if p.sticky && st.Nlink > 1 {
		return fmt.Errorf("it has %d hard links, in a directory that others may write: %w", st.Nlink, ErrUnsafe)
	}
	return nil
}

// checkDir judges a directory by the rules in the package comment, which bind root alone.
func checkDir(st *unix.Stat_t, euid int) (sticky bool, err error) {
	if euid != 0 {
		return false, nil
	}
	if st.Uid != 0 {
		return false, fmt.Errorf("belongs to uid %d, not to root: %w", st.Uid, ErrUnsafe)
	}
	if st.Mode&0o022 == 0 {
		return false, nil
	}
	if st.Mode&unix.S_ISVTX == 0 {
		return false, fmt.Errorf("is writable by group or others (mode %04o): %w", st.Mode&0o7777, ErrUnsafe)
	}
	return true, nil
}

// openDir opens the directory, or makes it and opens it. One level only: a mistyped path should not grow a tree.
func openDir(dir string) (int, error) {
	for first := true; ; first = false {
		var fd int
		err := retry(func() (err error) {
			fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return err
		})
		if err == nil {
			return fd, nil
		}
		if !first || !errors.Is(err, fs.ErrNotExist) {
			return -1, fmt.Errorf("directory %s: %w", dir, err)
		}
		if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return -1, fmt.Errorf("make directory %s: %w", dir, cause(err))
		}
	}
}

// cause takes the path out of an error of package os, for callers that say it themselves.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}

// retry repeats a call that a signal has interrupted; Go's runtime sends itself such signals (SIGURG).
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
