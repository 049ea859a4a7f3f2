package daemon

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A lockFile is what children lock before they wait for connections. A lock belongs to an open file, so each child gets one
// that was opened for it alone, by the parent: it need not be able to open it itself. When the child is dead the kernel closes
// it, and the lock is free.
type lockFile struct {
	path string
	fd   int
	ours bool // to remove
}

func openLockFile(path string, ours bool) (*lockFile, error) {
	// Not through a link, for it may be in a directory where others can make one; not waiting for the other end of a fifo.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, fmt.Errorf("field LockFile: %s is not a regular file", path)
	}
	return &lockFile{path, fd, ours}, nil
}

func (f *lockFile) forChild() (fds []int, number uint64, err error) {
	fd, err := unix.Open(procFD(f.fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, &os.PathError{Op: "open", Path: f.path, Err: err}
	}
	return []int{fd}, 0, nil
}

// The next parent opens the file by its path.
func (f *lockFile) hand() handedTurns { return handedTurns{} }

func (f *lockFile) close() {
	unix.Close(f.fd)
	if f.ours {
		os.Remove(f.path)
	}
}

// A flockOf is an open file that is locked as a whole.
type flockOf int

func (f flockOf) acquire(wait bool) error {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		if err := unix.Flock(int(f), how); err != unix.EINTR {
			return os.NewSyscallError("flock", err)
		}
	}
}

func (f flockOf) release() error {
	return os.NewSyscallError("flock", unix.Flock(int(f), unix.LOCK_UN))
}
