package daemon

import (
	"os"

	"golang.org/x/sys/unix"
)

// A knocker tells the parent of a pool on demand that a connection waits and nobody is there to accept it. It looks at
// the listeners only when it is asked to, and once: who is not asked is not woken by every connection.
type knocker struct {
	p    *Parent
	fd   int
	file *os.File
}

func (k *knocker) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	// Go takes O_NONBLOCK as the sign that the descriptor can be waited for.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	k.fd, k.file = fd, os.NewFile(uintptr(fd), "knocker")
	k.p.onExit(func() { k.file.Close() })
	for _, l := range k.p.listeners {
		if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, l.fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT, Fd: int32(l.fd)}); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}

// arm asks for one word of the next connection that waits, or waits already.
func (k *knocker) arm() error {
	for _, l := range k.p.listeners {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(l.fd)}
		if err := unix.EpollCtl(k.fd, unix.EPOLL_CTL_MOD, l.fd, &ev); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	return nil
}

func (k *knocker) run() {
	rc, err := k.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		err := rc.Read(func(fd uintptr) bool {
			var events [1]unix.EpollEvent
			n, _ := unix.EpollWait(int(fd), events[:], 0)
			return n > 0
		})
		if err != nil {
			return
		}
		k.p.post(evKnock{})
	}
}
