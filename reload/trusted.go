package reload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Trusted returns nil if nobody but root and the given owners could have put a program where path leads, or changed
// it: the file, every directory on the way to it from the root, and every symbolic link on the way with the directories on
// its own way, belongs to one of them, and nobody else may write the file or one of the directories. A directory with the
// sticky bit, such as /tmp, may be open to all: others cannot touch what is not theirs there.
//
// path is absolute; fd is what was opened by it before, if only as O_PATH, and is what the caller is going to execute.
// Whoever could have exchanged the file between opening and this look would have been found: an error that
// wraps ErrMoving says that path leads elsewhere now. Other errors name the component that is not to be trusted and what
// to do about it. Access control lists need no look of their own: what they grant shows in the mode of the group.
//
// Nothing is kept; descriptors that are used on the way are closed. Safe for use by several goroutines.
func Trusted(path string, fd int, owners ...uint32) error {
	var opened unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &opened) }); err != nil {
		return fmt.Errorf("reload: trust %s: %w", path, os.NewSyscallError("fstat", err))
	}
	w := &walk{dir: -1, owners: append([]uint32{0}, owners...)}
	defer w.leave()
	st, err := w.to(path)
	if err != nil {
		return fmt.Errorf("reload: trust %s: %w", path, err)
	}
	if st.Dev != opened.Dev || st.Ino != opened.Ino {
		return fmt.Errorf("reload: trust %s: %w", path, ErrMoving)
	}
	return nil
}

// A walk goes along a path as the kernel does, and judges each step. It holds the directory in which it is open, so that
// what was judged cannot be exchanged before the next step.
type walk struct {
	owners []uint32
	dir    int    // O_PATH
	at     string // its path, without links
	links  int
}

// to goes along an absolute path and returns what stat(2) says of its end.
func (w *walk) to(path string) (st unix.Stat_t, err error) {
	if !filepath.IsAbs(path) {
		return st, errors.New("not an absolute path")
	}
	for rest := path; rest != ""; {
		name := "/"
		if !strings.HasPrefix(rest, "/") {
			name, rest, _ = strings.Cut(rest, "/")
		}
		rest = strings.TrimLeft(rest, "/")
		fd, full, err := w.open(name)
		if err != nil {
			return st, err
		}
		if st, err = w.judge(fd, full); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			w.leave()
			w.dir, w.at = fd, full
			if err != nil {
				return st, err
			}
			continue
		}
		text, err := w.follow(fd, full)
		if err != nil {
			return st, err
		}
		rest = strings.TrimSuffix(text+"/"+rest, "/")
	}
	return st, nil
}

// open opens the next component, which may be "/" to begin at the root.
func (w *walk) open(name string) (fd int, full string, err error) {
	if full = name; name != "/" {
		full = filepath.Join(w.at, name)
	}
	err = retry(func() (err error) {
		fd, err = unix.Openat(w.dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		err = &fs.PathError{Op: "open", Path: full, Err: err}
	}
	return fd, full, err
}

// judge fails unless a component is in nobody's hands but the owners'.
func (w *walk) judge(fd int, full string) (st unix.Stat_t, err error) {
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return st, &fs.PathError{Op: "fstat", Path: full, Err: err}
	}
	kind, mode := st.Mode&unix.S_IFMT, st.Mode&0o7777
	switch {
	case !slices.Contains(w.owners, st.Uid):
		return st, fmt.Errorf("%s belongs to user %d (mode %04o), who could change what is executed: give it to root (chown), "+
			"or make that user a trusted owner", full, st.Uid, mode)
	case kind == unix.S_IFLNK, kind == unix.S_IFDIR && mode&unix.S_ISVTX != 0, mode&0o022 == 0:
		return st, nil
	}
	return st, fmt.Errorf("%s may be written by others than its owner, user %d (mode %04o), who could change what is executed: "+
		"take that from them (chmod go-w)", full, st.Uid, mode)
}

// follow returns the text of a symbolic link and closes it.
func (w *walk) follow(fd int, full string) (string, error) {
	defer unix.Close(fd)
	if w.links++; w.links > maxLinks {
		return "", &fs.PathError{Op: "follow", Path: full, Err: unix.ELOOP}
	}
	text := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", text)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: full, Err: err}
	}
	return string(text[:n]), nil
}

// leave closes the directory in which the walk is.
func (w *walk) leave() {
	if w.dir >= 0 {
		unix.Close(w.dir)
	}
}
