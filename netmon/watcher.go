package netmon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Watcher hears at once that something has ended on sockets which other processes hold.
//
// It borrows the socket: pidfd_getfd(2) makes a copy of the descriptor, the copy is registered in an epoll and closed. The
// registration belongs to the socket and goes with it. It keeps the socket not open, reads nothing from it and changes no
// flag of it; the process that holds it, in whatever language it is written, has no part in it and does not notice.
//
// What it tells is a reason to look, and no proof that a client has left: this side may have shut down the connection as
// well. A Watcher does not tell when the holder closes the socket. It waits in Go's poller and occupies no thread.
//
// Its methods may be called at the same time, but for Wait, which one goroutine calls.
type Watcher struct {
	epoll  *os.File
	fd     int
	events []unix.EpollEvent
}

// NewWatcher returns a Watcher that watches nothing yet. It holds a descriptor until Close.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// An epoll has no use for O_NONBLOCK; Go takes it as the sign that the descriptor can be waited for.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &Watcher{epoll: os.NewFile(uintptr(fd), "watcher"), fd: fd, events: make([]unix.EpollEvent, 64)}, nil
}

// Add begins to watch the socket with this inode, which the process behind pidfd holds as its descriptor fd. What has ended
// on it before is told as well. It costs some 5 µs.
//
// The error is fs.ErrNotExist if the process has gone or holds something else there by now, fs.ErrPermission if this process
// may not look into that one (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS: of another user, not dumpable, or seccomp forbids
// it), errors.ErrUnsupported on kernels before 5.6. A socket that is added twice is told twice.
func (w *Watcher) Add(pidfd, fd int, inode uint64) error {
	copied, err := unix.PidfdGetfd(pidfd, fd, 0)
	switch {
	case errors.Is(err, unix.EBADF), errors.Is(err, unix.ESRCH):
		return fmt.Errorf("netmon: borrow descriptor %d: %w", fd, fs.ErrNotExist)
	case err != nil:
		return fmt.Errorf("netmon: borrow descriptor %d: %w", fd, os.NewSyscallError("pidfd_getfd", err))
	}
	defer unix.Close(copied)
	var st unix.Stat_t
	if err := unix.Fstat(copied, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Ino != inode {
		return fmt.Errorf("netmon: descriptor %d is not socket %d any more: %w", fd, inode, fs.ErrNotExist)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLET}
	*eventInode(&ev) = inode
	if err := unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, copied, &ev); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

// eventInode is the 64 bits that are the user's: epoll_event(3type), data.
func eventInode(ev *unix.EpollEvent) *uint64 { return (*uint64)(unsafe.Pointer(&ev.Fd)) }

// Wait waits until something has ended on one of the sockets, and appends the inodes of all such to dst. What ends in two
// steps may be told twice. After Close the error is os.ErrClosed.
func (w *Watcher) Wait(dst []uint64) ([]uint64, error) {
	rc, err := w.epoll.SyscallConn()
	if err != nil {
		return dst, err
	}
	var n int
	var werr error
	err = rc.Read(func(fd uintptr) bool {
		if n, werr = unix.EpollWait(int(fd), w.events, 0); werr == unix.EINTR {
			n, werr = 0, nil
		}
		return n > 0 || werr != nil
	})
	if err != nil {
		return dst, os.ErrClosed
	}
	if werr != nil {
		return dst, os.NewSyscallError("epoll_wait", werr)
	}
	for i := range w.events[:n] {
		dst = append(dst, *eventInode(&w.events[i]))
	}
	return dst, nil
}

// Close ends all watching, and a Wait that waits.
func (w *Watcher) Close() error { return w.epoll.Close() }
