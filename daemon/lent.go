package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

// takeGiven returns the listeners that the service manager has bound itself and has handed over under a name, or the one that has a
// number.
func (p *Parent) takeGiven(asked address) (all []*listener, err error) {
	for l := p.adoptListener(asked, netip.Addr{}); l != nil; l = p.adoptListener(asked, netip.Addr{}) {
		all = append(all, l)
	}
	if len(all) > 0 {
		return all, nil
	}
	number, err := strconv.Atoi(asked.Text)
	numbered := err == nil
	var others []inherit.Given
	for _, g := range p.service.given {
		ours := strings.HasPrefix(g.Name, storePrefix)
		if ours || numbered && g.FD != number || !numbered && g.Name != asked.Text {
			others = append(others, g)
			continue
		}
		l, err := lent(g)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: descriptor %d=%s %w", asked, g.FD, g.Name, err)
		}
		all = append(all, l)
	}
	if len(all) > 0 {
		p.service.given = others
		return all, nil
	}
	there := "it has handed over none (Sockets= of the service's unit, FileDescriptorName= of the socket's)"
	if p.handed != nil {
		there = "it hands over more only when the daemon is stopped and started"
	}
	var names []string
	for _, g := range p.service.given {
		if !strings.HasPrefix(g.Name, storePrefix) {
			names = append(names, fmt.Sprintf("%d=%s", g.FD, g.Name))
		}
	}
	if len(names) > 0 {
		there = "there are " + strings.Join(names, " ")
	}
	return nil, fmt.Errorf("listen on %s: the service manager has handed over no such descriptor: %s", asked, there)
}

// lent makes a listener of a descriptor, if it is one.
func lent(g inherit.Given) (*listener, error) {
	if !listens(g.FD) {
		return nil, errors.New("does not listen for streams of TCP or of Unix: want ListenStream= and not Accept=yes")
	}
	sa, err := unix.Getsockname(g.FD)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	l := &listener{fd: g.FD, kept: true, lent: true, given: g.Name}
	switch sa := sa.(type) {
	case *unix.SockaddrUnix:
		if !strings.HasPrefix(sa.Name, "/") {
			return nil, fmt.Errorf("listens on %q: want a socket with a path", sa.Name)
		}
		l.network, l.addr, l.path = "unix", sa.Name, sa.Name
	default:
		ap := addrPort(sa)
		if !ap.IsValid() {
			return nil, errors.New("is neither of TCP nor of Unix")
		}
		l.network, l.addr, l.port = "tcp", ap.String(), ap.Port()
	}
	// A socket unit's would make accept wait.
	return l, os.NewSyscallError("fcntl", unix.SetNonblock(l.fd, true))
}
