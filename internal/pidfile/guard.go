package pidfile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrUnsafe is the cause of an error about a file or directory that somebody else could use against us. The text around it
// names the thing and what is wrong with it.
var ErrUnsafe = errors.New("refused as unsafe")

// errReplaced means that the path stopped naming the file we had opened; the cure is to open it again.
var errReplaced = errors.New("the path keeps changing")

// openDir opens the directory of a pidfile once and checks what it has opened; all later calls go through the descriptor,
// so nobody can swap the directory between the check and the use.
func openDir(dir string) (int, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open directory %s: %w", dir, err)
	}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("stat directory %s: %w", dir, err)
	}
	if err := checkDir(&st, os.Geteuid()); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("directory %s %w", dir, err)
	}
	return fd, nil
}

// checkDir refuses a directory in which somebody other than root and euid could replace our file.
func checkDir(st *unix.Stat_t, euid int) error {
	if st.Uid != 0 && int(st.Uid) != euid {
		return fmt.Errorf("belongs to uid %d, neither root nor uid %d: %w", st.Uid, euid, ErrUnsafe)
	}
	if st.Mode&0o022 == 0 {
		return nil
	}
	// For root even a sticky directory is too much: another user may be there first with a file of our name.
	if st.Mode&unix.S_ISVTX != 0 && euid != 0 {
		return nil
	}
	return fmt.Errorf("is writable by group or others (mode %04o): %w", st.Mode&0o7777, ErrUnsafe)
}

// openFile opens or creates the pidfile and checks what it has opened. It returns errReplaced if the file was removed
// meanwhile.
func openFile(dir int, name string) (int, error) {
	const flags = unix.O_RDWR | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(dir, name, flags, 0o644)
		return err
	})
	if errors.Is(err, unix.ELOOP) {
		return -1, fmt.Errorf("it is a symbolic link (%w): %w", err, ErrUnsafe)
	}
	if err != nil {
		return -1, fmt.Errorf("open: %w", err)
	}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("stat: %w", err)
	}
	if err := checkFile(&st, os.Geteuid()); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkFile refuses a file that is not plainly ours. A file without a name is not unsafe, only too late.
func checkFile(st *unix.Stat_t, euid int) error {
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("it is not a regular file: %w", ErrUnsafe)
	case st.Nlink == 0:
		return errReplaced
	case st.Nlink > 1:
		return fmt.Errorf("it has %d hard links, so it is another file too: %w", st.Nlink, ErrUnsafe)
	case int(st.Uid) != euid:
		return fmt.Errorf("it belongs to uid %d, not to uid %d: %w", st.Uid, euid, ErrUnsafe)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("it is writable by group or others (mode %04o): %w", st.Mode&0o7777, ErrUnsafe)
	}
	return nil
}

// stillNamed reports whether name in dir is the very file that fd has open.
func stillNamed(dir int, name string, fd int) (bool, error) {
	var ours, there unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &ours) }); err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	err := retry(func() error { return unix.Fstatat(dir, name, &there, unix.AT_SYMLINK_NOFOLLOW) })
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	return ours.Dev == there.Dev && ours.Ino == there.Ino, nil
}
