package pidfile

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// lockPatience is how long Take waits for a lock, since a look by [Held] has it for an instant; and then, at most, how long
// it waits for a holder that has the lock but has not yet written its name.
const lockPatience = 100 * time.Millisecond

// lockPause is the time between two tries at the lock.
const lockPause = 5 * time.Millisecond

// HeldError says that another process holds the pidfile, so the daemon is already running.
type HeldError struct {
	// Path is the pidfile, absolute.
	Path string
	// PID is the process that the file names, if that very process is alive; else 0, for unknown.
	PID int
}

// Error names the file and, where it is known, the holder.
func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("pidfile %s is held by another process (already running)", e.Path)
	}
	return fmt.Sprintf("pidfile %s is held by pid %d (already running)", e.Path, e.PID)
}

// Held reports whether some process holds the pidfile now, this one included.
//
// A missing file is held by nobody: false and no error. It asks by taking a shared lock for an instant, so looks do not
// disturb each other, and [Take] is patient with them. Use it with [Read] and [Identity.Open] before signalling: a file that
// names a live process is not a daemon's unless the lock is held. A symbolic link or anything but a regular file is an error.
func Held(path string) (bool, error) {
	fd, err := openToRead(path)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at pidfile %s: %w", path, err)
	}
	defer unix.Close(fd)
	err = retry(func() error { return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) })
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return true, nil
	}
	return false, fmt.Errorf("lock pidfile %s: %w", path, err)
}

// lock takes the exclusive lock on fd, trying until deadline. It returns EWOULDBLOCK if somebody else keeps it.
func lock(fd int, deadline time.Time) error {
	for {
		err := retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(lockPause)
	}
}

// holder returns the pid in the locked file if that process is alive, else 0. It looks more than once, because the winner
// of two simultaneous starts has the lock a moment before it has written its name.
func holder(fd int) int {
	deadline := time.Now().Add(lockPatience)
	for {
		if id, err := readIdentity(fd); err == nil && id.Alive() {
			return id.PID
		}
		if time.Now().After(deadline) {
			return 0
		}
		time.Sleep(lockPause)
	}
}

// retry repeats a call that a signal has interrupted; Go's runtime sends itself such signals (SIGURG).
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
