package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/internal/notify"
)

const (
	// storePrefix begins the names of descriptors that are ours in the service manager's store. Whatever has another name
	// belongs to somebody else, such as a socket unit.
	storePrefix = "brood-"
	// maxStoreName is the longest name that it takes.
	maxStoreName = 255
	// storeWait is how long the start of the daemon waits for a service manager that has no room for a message.
	storeWait = time.Second
)

// storeListeners gives the listeners to the service manager, which keeps them, and the clients in their queues, if the parent
// dies. Before that it gives up what has come from there and nobody has asked for.
func (p *Parent) storeListeners() {
	s := &p.service
	if s.problem != nil {
		p.log.Warn("the service manager's words make no sense", "err", s.problem)
	}
	if dropped := s.drop(p.log, func(inherit.Given) bool { return true }); len(dropped) > 0 {
		p.log.Warn("descriptors of the service manager are not used and have been closed", "names", strings.Join(dropped, " "))
	}
	if s.notifier == nil {
		return
	}
	for _, l := range p.listeners {
		if l.lent || l.stored != "" || l.network != "unix" && p.places() > 0 { // it keeps one socket under a name
			continue
		}
		name := l.storeName()
		if !s.patiently(p.log, func() error { return s.notifier.SendFDs(name, l.fd) }) {
			return
		}
		l.stored = name
	}
}

// patiently does what does not belong into the loop: it tries again for a while if the service manager has no room. It
// reports whether it has worked.
func (s *service) patiently(log *slog.Logger, send func() error) bool {
	err := send()
	for end := time.Now().Add(storeWait); notify.Later(err) && time.Now().Before(end); err = send() {
		time.Sleep(5 * time.Millisecond)
	}
	s.complain(log, err)
	return err == nil
}

func (s *service) forget(log *slog.Logger, name string) {
	s.patiently(log, func() error { return s.notifier.Forget(name) })
}

// drop closes descriptors that nobody has asked for and returns what they were. Those of ours leave the store, too: an address
// that is kept there cannot be bound.
func (s *service) drop(log *slog.Logger, which func(inherit.Given) bool) []string {
	var names []string
	s.given = slices.DeleteFunc(s.given, func(g inherit.Given) bool {
		if !which(g) {
			return false
		}
		names = append(names, fmt.Sprintf("%d=%s", g.FD, g.Name))
		unix.Close(g.FD)
		if strings.HasPrefix(g.Name, storePrefix) {
			s.forget(log, g.Name)
		}
		return true
	})
	return names
}

// adopt returns the listener that binding this address would make, if the service manager has kept it; else nil.
func (s *service) adopt(network, address string) (*listener, error) {
	for i, g := range s.given {
		l := &listener{fd: g.FD, network: family(network), kept: true, given: g.Name, lent: !strings.HasPrefix(g.Name, storePrefix)}
		if !listens(g.FD) {
			continue
		}
		switch sa, err := unix.Getsockname(g.FD); sa := sa.(type) {
		case nil:
			return nil, os.NewSyscallError("getsockname", err)
		case *unix.SockaddrUnix:
			if network != "unix" || !samePath(sa.Name, address) || !l.recognize(address, g.Name) {
				continue
			}
			l.addr = address
		default:
			if !sameTCP(g.FD, network, address) {
				continue
			}
			ap := addrPort(sa)
			l.addr, l.port = ap.String(), ap.Port()
		}
		if !l.lent {
			l.stored = g.Name
		}
		s.given = slices.Delete(s.given, i, i+1)
		// A socket unit's would make accept wait.
		err := os.NewSyscallError("fcntl", unix.SetNonblock(l.fd, true))
		if err == nil && network == "unix" {
			if l.path, err = filepath.Abs(address); err == nil && !l.lent {
				err = l.claimPath()
			}
		}
		if err != nil {
			unix.Close(l.fd)
			return nil, err
		}
		return l, nil
	}
	return nil, nil
}

// dropRivals closes what the service manager has kept and what stands in the way of an address, such as a listener on all
// addresses of its port. It reports whether there was something.
func (s *service) dropRivals(log *slog.Logger, network, address string) bool {
	_, port, _ := net.SplitHostPort(address)
	number, err := net.LookupPort("tcp", port)
	names := s.drop(log, func(g inherit.Given) bool {
		sa, serr := unix.Getsockname(g.FD)
		if u, ok := sa.(*unix.SockaddrUnix); ok {
			return network == "unix" && samePath(u.Name, address)
		}
		return serr == nil && network != "unix" && err == nil && int(addrPort(sa).Port()) == number
	})
	if len(names) > 0 {
		log.Warn("descriptors of the service manager stand in the way of a listener and have been closed", "addr", address,
			"names", strings.Join(names, " "))
	}
	return len(names) > 0
}

// listens reports whether a descriptor is a listening stream socket of a kind that bind makes: not one of MPTCP.
func listens(fd int) bool {
	is := func(option int, want ...int) bool {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
		return err == nil && slices.Contains(want, got)
	}
	return is(unix.SO_TYPE, unix.SOCK_STREAM) && is(unix.SO_ACCEPTCONN, 1) && is(unix.SO_PROTOCOL, 0, unix.IPPROTO_TCP)
}

// A reach is what of the network a socket is bound to, but for its port.
type reach struct {
	domain int
	addr   netip.Addr
	only6  bool // and not IPv4, too
}

func reachOf(fd int) (r reach, port uint16, err error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return r, 0, os.NewSyscallError("getsockname", err)
	}
	ap := addrPort(sa)
	r.addr, port = ap.Addr(), ap.Port()
	if r.domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && r.domain == unix.AF_INET6 {
		var only int
		only, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		r.only6 = only != 0
	}
	return r, port, os.NewSyscallError("getsockopt", err)
}

// sameTCP reports whether a socket is what listening on address would make. How a host's name, or none, becomes an address is
// package net's business: it is asked, with a port that is free.
func sameTCP(fd int, network, address string) bool {
	have, port, err := reachOf(fd)
	if err != nil {
		return false
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if want, err := net.LookupPort(network, service); err != nil || want == 0 || want != int(port) {
		return false
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	probe, err := lc.Listen(context.Background(), network, net.JoinHostPort(host, "0"))
	if err != nil {
		return false
	}
	defer probe.Close()
	same := false
	err = controlFile(probe.(syscall.Conn), func(fd int) error {
		want, _, err := reachOf(fd)
		same = want == have
		return err
	})
	return err == nil && same
}

func samePath(a, b string) bool {
	a, aerr := filepath.Abs(a)
	b, berr := filepath.Abs(b)
	return errors.Join(aerr, berr) == nil && a == b
}

// recognize reports whether the path still leads to the Unix socket that was stored under a name: the name tells which file
// it was. Of somebody else's it is only known that there is a socket.
func (l *listener) recognize(path, name string) bool {
	st, err := os.Lstat(path)
	if err != nil || st.Mode()&os.ModeSocket == 0 {
		return false
	}
	return l.lent || name == unixStoreName(path)
}

// storeName is the name of a listener in the service manager's store. It follows from what the listener is, so that the next
// parent, with other listeners beside it, means the same one by it.
func (l *listener) storeName() string {
	if l.path != "" {
		return unixStoreName(l.path)
	}
	return cutName(storePrefix + l.network + "-" + l.addr)
}

// unixStoreName names the file, since another one may lie at the same path by the time when the socket comes back. A file's
// number may be given to another one, but not with the same time.
func unixStoreName(path string) string {
	abs, err := filepath.Abs(path)
	var st unix.Stat_t
	if err == nil {
		err = unix.Lstat(abs, &st)
	}
	if err != nil {
		abs = path
	}
	return cutName(fmt.Sprintf("%sunix-%x-%x-%x-%s", storePrefix, st.Dev, st.Ino, st.Mtim.Nano(), abs))
}

// cutName makes a name of characters that the store takes.
func cutName(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == ':' || c == '%' {
			fmt.Fprintf(&b, "%%%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	name := b.String()
	return name[:min(len(name), maxStoreName)]
}
