package reload

import (
	"golang.org/x/sys/unix"
)

// writing is what is known about writers of a file.
type writing int

const (
	unknown  writing = iota // the kernel would not say
	nobody                  // no process has it open for writing at this moment
	somebody                // exec of it would fail with ETXTBSY
)

// Writing reports whether some process has the regular file at path open for writing, or mapped shared and writable, so
// that exec(2) of it would fail with ETXTBSY at this moment. False if nobody has or if the kernel would not say: it tells
// the owner of the file and processes with CAP_LEASE, and not on every file system. A file that is already open, if only
// as O_PATH, is named by /proc/self/fd/N. Safe for use by several goroutines.
func Writing(path string) bool { return leaseProbe(path) == somebody }

// leaseProbe finds out whether some process has a file open for writing, or mapped shared and writable.
//
// fcntl(2): a read lease can be had only while nobody has the file open for writing, else the error is EAGAIN. The
// kernel compares the same counter (i_writecount) that makes exec fail with ETXTBSY. The lease is given back at once;
// a writer that opens the file in those microseconds waits for them, or gets EWOULDBLOCK with O_NONBLOCK, and this
// process gets a SIGIO, which the Go runtime ignores.
//
// Only the owner of the file and processes with CAP_LEASE may ask, and network file systems may refuse: then
// the answer is unknown, and the caller has to wait for two looks that agree. execveat with AT_EXECVE_CHECK
// (Linux 6.14) would answer anybody who may execute the file, but a kernel or sandbox that ignored the flag
// would replace this process by the file.
func leaseProbe(path string) writing {
	var fd int
	err := retry(func() (err error) {
		// Nonblocking: never hang on a pipe that took the place of the file, or on the lease of another process.
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return unknown
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch err {
	case nil:
		// Explicitly: a child forked at this moment may keep the descriptor, and with it the lease, until it execs.
		unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		return nobody
	case unix.EAGAIN:
		return somebody
	}
	return unknown
}
