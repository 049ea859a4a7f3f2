package pidfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxReplaced bounds how often Take opens the path anew because the file it had was removed meanwhile. Each time, another
// process has come and gone; only somebody who replaces the file for sport gets this far.
const maxReplaced = 100

// File is a pidfile held by this process.
//
// It keeps two descriptors open, both close-on-exec. They are plain numbers, not an os.File, on purpose: a File that is
// forgotten keeps its lock until the process ends, while a finalizer would drop it. Its methods may be called from any
// goroutine.
type File struct {
	path string // absolute
	name string // its last element, looked up below dir
	dir  int
	fd   int

	mu       sync.Mutex
	released bool
}

// Take creates and locks the pidfile at path for this process and holds it until Release.
//
// It writes who this process is (see the package comment) into the file, which has mode 0644 less the umask when it is
// new. The directory must exist. A relative path is made absolute at once, so a later chdir does no harm.
//
// If another process holds the file, the error is a [*HeldError] that names it; another Take of the same path in this
// process counts as another process. An error about an unsafe file or directory wraps [ErrUnsafe] (the package comment has
// the rules); those of the system wrap their errno. It tries for up to 100 ms to get the lock, and for up to 100 ms more to
// learn the holder's name.
//
// The lock is flock(2): it ends with the process, kill -9 included, and is not inherited by the programs that it runs.
func Take(path string) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("take pidfile %s: %w", path, err)
	}
	f, err := take(abs)
	return f, named("take", abs, err)
}

// Adopt takes over the lock that this very process held before it replaced itself with exec(2).
//
// fd is the number from [File.Fd] of the old program, which has to clear close-on-exec on it right before the exec. The
// lock belongs to the open file and survives, so there is no moment at which another start could win. The file is checked
// as in Take, must still lie at path, and is written anew; fd is close-on-exec again from here on. After an error fd is
// still open and the caller's.
func Adopt(path string, fd int) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("adopt pidfile %s: %w", path, err)
	}
	f, err := adopt(abs, fd)
	return f, named("adopt", abs, err)
}

// Path returns the absolute path of the pidfile.
func (f *File) Path() string { return f.path }

// Fd returns the descriptor that carries the lock, for [Adopt] after an exec. It is close-on-exec; the File keeps owning it.
func (f *File) Fd() int { return f.fd }

// Release removes the pidfile if it is still ours and gives up the lock.
//
// It compares inodes, not names, so a file that somebody else has put there in the meantime stays; and it removes while the
// lock is still held, so it cannot take the file of a start that comes right after. A second call does nothing and returns
// nil. On an error the lock is given up all the same.
func (f *File) Release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released {
		return nil
	}
	f.released = true
	err := f.unlink()
	unix.Close(f.fd) // last: this is what drops the lock
	unix.Close(f.dir)
	return named("release", f.path, err)
}

func take(path string) (*File, error) {
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	f := &File{path: path, name: filepath.Base(path), dir: dir}
	if err := f.acquire(); err != nil {
		unix.Close(dir)
		return nil, err
	}
	if err := f.sign(); err != nil {
		f.Release()
		return nil, err
	}
	return f, nil
}

// acquire sets f.fd to the locked file that lies at the path.
func (f *File) acquire() error {
	deadline := time.Now().Add(lockPatience)
	for range maxReplaced {
		fd, err := openFile(f.dir, f.name)
		if errors.Is(err, errReplaced) {
			continue
		}
		if err != nil {
			return err
		}
		ours, err := f.lockNamed(fd, deadline)
		if ours {
			f.fd = fd
			return nil
		}
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return errReplaced
}

// lockNamed locks fd and then makes sure that the path still leads to it: the holder before us may have removed the file
// between our open and our lock, and a lock on a file without a name excludes nobody.
func (f *File) lockNamed(fd int, deadline time.Time) (bool, error) {
	err := lock(fd, deadline)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, &HeldError{Path: f.path, PID: holder(fd)}
	}
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	return stillNamed(f.dir, f.name, fd)
}

func adopt(path string, fd int) (*File, error) {
	unix.CloseOnExec(fd)
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, fmt.Errorf("stat descriptor %d: %w", fd, err)
	}
	if err := checkFile(&st, unix.Geteuid()); err != nil {
		return nil, err
	}
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	f := &File{path: path, name: filepath.Base(path), dir: dir, fd: fd}
	ours, err := f.lockNamed(fd, time.Now())
	if err == nil && !ours {
		err = fmt.Errorf("descriptor %d is not the file at the path: %w", fd, errReplaced)
	}
	if err == nil {
		err = f.sign()
	}
	if err != nil {
		unix.Close(dir)
		return nil, err
	}
	return f, nil
}

// sign writes our identity over whatever the file said. For an instant the file is empty; readers look again or report it.
func (f *File) sign() error {
	id, err := Self()
	if err != nil {
		return err
	}
	if err := retry(func() error { return unix.Ftruncate(f.fd, 0) }); err != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	text := id.text()
	return retry(func() error {
		n, err := unix.Pwrite(f.fd, text, 0)
		if err == nil && n < len(text) {
			err = unix.ENOSPC // what a short write to a file means, write(2)
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		return nil
	})
}

func (f *File) unlink() error {
	ours, err := stillNamed(f.dir, f.name, f.fd)
	if err != nil || !ours {
		return err
	}
	err = retry(func() error { return unix.Unlinkat(f.dir, f.name, 0) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove: %w", err)
	}
	return nil
}

// named gives an error its operation and path. A HeldError is a sentence of its own already.
func named(op, path string, err error) error {
	if err == nil {
		return nil
	}
	if held, ok := errors.AsType[*HeldError](err); ok {
		return held
	}
	return fmt.Errorf("%s pidfile %s: %w", op, path, err)
}
