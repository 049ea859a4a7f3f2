package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// held returns the ids of the processes that this process has a pidfd of: somebody here waits for them, or will.
//
// Since Go 1.23 os.StartProcess takes a pidfd of each child with CLONE_PIDFD and keeps it until the child is waited for
// or released (os/pidfd_linux.go). The kernel puts it into the table before the child runs (fd_install in copy_process,
// then wake_up_new_task). So a process that has run, and is not here, was not started that way.
func (p proc) held() (map[int]bool, error) {
	const self = "/self/fd"
	fds, err := numbers(string(p) + self)
	if err != nil {
		return nil, err
	}
	pids := make(map[int]bool)
	for _, fd := range fds {
		name := strconv.Itoa(fd)
		link, err := os.Readlink(string(p) + self + "/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !isPidfd(link) {
			continue
		}
		info, err := readFile(string(p) + self + "info/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		pid, err := pidOf(info)
		if err != nil {
			return nil, fmt.Errorf("descriptor %d: %w", fd, err)
		}
		pids[pid] = true
	}
	return pids, nil
}

// isPidfd reports whether a descriptor that links to this is a pidfd. Linux 6.9 gave them a file system of their own,
// and for a while the other name.
func isPidfd(link string) bool {
	return strings.HasPrefix(link, "anon_inode:[pidfd") || strings.HasPrefix(link, "pidfd:[")
}

// pidOf returns the id in the fdinfo of a pidfd (proc_pid_fdinfo(5)): -1 if the process is reaped, 0 if it is of
// another namespace.
func pidOf(info []byte) (int, error) {
	for line := range bytes.Lines(info) {
		if text, ok := bytes.CutPrefix(line, []byte("Pid:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(text)))
		}
	}
	return 0, errors.New("fdinfo of a pidfd without a Pid line")
}
