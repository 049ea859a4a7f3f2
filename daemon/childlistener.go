package daemon

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A childListener is an inherited listening socket. All children share it; closing it here takes nothing from them.
type childListener struct {
	fd    int
	tcp   bool
	addr  net.Addr
	first *childListener // of those on the same address, each with a queue of its own; itself, if there are no others
	queue int            // which of them it is, counted from 0; -1: every child waits on it
	name  string
	spec  listenSpec
	tls   *tls.Config // nil: it has no certificate
}

func adoptListener(fd int, known listening) (*childListener, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("inherited listener: %w", os.NewSyscallError("getsockname", err))
	}
	if u, ok := sa.(*unix.SockaddrUnix); ok {
		return &childListener{fd: fd, queue: -1, addr: &net.UnixAddr{Name: u.Name, Net: "unix"}, name: known.Name, spec: known.Spec}, nil
	}
	ap := addrPort(sa)
	if !ap.IsValid() {
		return nil, fmt.Errorf("inherited listener %d is neither TCP nor Unix", fd)
	}
	return &childListener{fd: fd, tcp: true, queue: -1, addr: net.TCPAddrFromAddrPort(ap), name: known.Name, spec: known.Spec}, nil
}

// addrPort is the address of an IP socket, zero for others.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return addrPortOf(sa.Addr, uint16(sa.Port), sa.ZoneId)
	}
	return netip.AddrPort{}
}
