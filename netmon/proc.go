package netmon

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// FS is where a proc file system is mounted. The zero value means [DefaultFS].
//
// It is a value and not a constant so that a directory of made-up files can stand
// in for the kernel, and so that another process' view can be had: below
// FS("/proc/PID") are that process' net/tcp and net/tcp6.
type FS string

// DefaultFS is where proc is mounted on every usual system.
const DefaultFS FS = "/proc"

// path returns the name of a file below fs.
func (fs FS) path(name string) string {
	if fs == "" {
		fs = DefaultFS
	}
	return string(fs) + "/" + name
}

// The functions below are those of package unix, but take names as bytes that end
// with NUL: made once or built in place, they cost no allocation a call.

// open opens a file or directory. The descriptor is closed on exec.
func open(name []byte, flags int) (int, error) {
	at := unix.AT_FDCWD
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&name[0])),
			uintptr(flags|unix.O_RDONLY|unix.O_CLOEXEC), 0, 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
			continue
		}
		return -1, errno
	}
}

// read is read(2), repeated when a signal interrupts it.
func read(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// readlink reads the link called name into buf, cut off if buf is too short. A
// relative name is looked up in the directory dir.
func readlink(dir int, name, buf []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
