package daemon

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls that follow wait for nothing, so Go's scheduler need not hear of them. If it does in an idle process, it wakes the
// monitor of the run-time, which then looks after it for some hundred microseconds: for a short job those are more switches
// than all else.

// acceptNow is accept4(2) on a listener that does not block, for a connection that does not block. A peer on a Unix socket has no address.
func acceptNow(fd int) (conn int, peer netip.AddrPort, err error) {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, peer, errno
	}
	return int(n), rawAddrPort(&sa), nil
}

// rawAddrPort is addrPort of what the kernel has written.
func rawAddrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), networkOrder(&in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return addrPortOf(in.Addr, networkOrder(&in.Port), in.Scope_id)
	}
	return netip.AddrPort{}
}

func networkOrder(port *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(port))[:])
}

// addrPortOf is one of IP version 6, or of version 4 within it.
func addrPortOf(ip [16]byte, port uint16, scope uint32) netip.AddrPort {
	a := netip.AddrFrom16(ip)
	if a.Is4In6() {
		a = a.Unmap()
	} else if scope != 0 {
		a = a.WithZone(strconv.FormatUint(uint64(scope), 10))
	}
	return netip.AddrPortFrom(a, port)
}

// writeNow is write(2) to a descriptor that does not block.
func writeNow(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// atATime is how much is read or written at once by a system call of which Go's scheduler does not hear: some ten microseconds' work.
const atATime = 64 << 10

// recvNow is recvfrom(2) of a socket: to the kernel that is less of a way than read(2), which is for files of any kind.
func recvNow(fd int, p []byte) (int, error) { return transfer(unix.SYS_RECVFROM, fd, p) }

// sendNow is sendto(2) to a socket.
func sendNow(fd int, p []byte) (int, error) { return transfer(unix.SYS_SENDTO, fd, p) }

func transfer(call uintptr, fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// closeNow is close(2) of a socket that does not linger.
func closeNow(fd int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// inodeNow returns the inode of a socket.
func inodeNow(fd int) (uint64, error) {
	var st unix.Statx_t
	var empty byte
	_, _, errno := unix.RawSyscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&empty)), unix.AT_EMPTY_PATH, unix.STATX_INO,
		uintptr(unsafe.Pointer(&st)), 0)
	if errno != 0 {
		return 0, errno
	}
	return st.Ino, nil
}

// optionNow is getsockopt(2) of a number.
func optionNow(fd, level, name int) (int, error) {
	var v int32
	size := uint32(unsafe.Sizeof(v))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)),
		uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(v), nil
}

// epollNow is epoll_wait(2) without waiting.
func epollNow(epoll int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// soon is how long a child that has one job at a time waits for its client's first word before it has Go's poller wait for it: a request
// follows its connection within some microseconds.
const soon = 100 * time.Microsecond

// comesSoon waits until there is something to read, for so short a time that it is all the same to Go's scheduler.
func comesSoon(fd int) bool {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	wait := unix.NsecToTimespec(int64(soon))
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&wait)), 0, 0, 0)
	return errno == 0 && n == 1
}

// hangUps asks what an epoll for EPOLLRDHUP would tell of a descriptor (epoll and poll share their bits, poll(2)).
func hangUps(fd int) uint32 {
	p := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
	var now unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	if errno != 0 || n != 1 {
		return 0
	}
	return uint32(p.Revents)
}
