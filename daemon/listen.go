package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

// A listener is a bound socket in the parent: a bare descriptor, because the parent never accepts and must not be
// woken by those who connect.
type listener struct {
	fd      int
	asked   [2]string // network and address as they were asked for
	network string    // tcp or unix
	addr    string    // as the kernel gave it
	port    uint16    // of tcp
	path    string    // of unix
	dev     uint64    // of the path, to see that it is still ours
	ino     uint64
	lent    bool   // by a service manager that has bound it itself: the path is not ours
	stored  string // its name in the service manager's store; empty: it is not there
}

const (
	// orphanTime is how long the children of a parent that was killed may need to let go of its addresses.
	orphanTime = 3 * time.Second

	// unixMode lets the daemon's group connect.
	unixMode = 0o660
)

// splitAddress tells the network of an address as users write it.
func splitAddress(a string) (network, address string, err error) {
	switch {
	case strings.HasPrefix(a, "unix:"):
		if a == "unix:" {
			return "", "", fmt.Errorf("listen address %q: want a path behind it", a)
		}
		return "unix", a[len("unix:"):], nil
	case filepath.IsAbs(a):
		return "unix", a, nil
	}
	if _, _, err := net.SplitHostPort(a); err != nil {
		return "", "", fmt.Errorf("listen address %q: want host:port, :port, unix:/path or an absolute path", a)
	}
	return "tcp", a, nil
}

// bind opens a listening socket that children can share.
func bind(network, address string, timeout time.Duration) (*listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = inheritable(int(fd), network, timeout) }); cerr != nil {
			return cerr
		}
		return err
	}}
	// The kernel's tables show a client of an MPTCP socket as connected for ever.
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), network, address)
	if errors.Is(err, unix.EADDRINUSE) && network == "unix" && removeStale(address) {
		l, err = lc.Listen(context.Background(), network, address)
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()
	out := &listener{network: network, addr: l.Addr().String()}
	switch l := l.(type) {
	case *net.TCPListener:
		out.port = uint16(l.Addr().(*net.TCPAddr).Port)
	case *net.UnixListener:
		l.SetUnlinkOnClose(false)
		if err := out.claimPath(address); err != nil {
			os.Remove(address)
			return nil, err
		}
	default:
		return nil, fmt.Errorf("cannot listen on %s %s: want tcp or unix", network, address)
	}
	rc, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	if out.fd, err = inherit.Dup(rc); err != nil {
		return nil, err
	}
	return out, nil
}

// removeStale removes the path of a Unix socket on which nobody listens any more.
func removeStale(path string) bool {
	if st, err := os.Lstat(path); err != nil || st.Mode()&os.ModeSocket == 0 {
		return false
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return false
	}
	return errors.Is(err, unix.ECONNREFUSED) && os.Remove(path) == nil
}

// claimPath notes which file a Unix socket's path is, and lets the group connect.
func (l *listener) claimPath(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := os.Chmod(abs, unixMode); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(abs, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: abs, Err: err}
	}
	l.path, l.dev, l.ino = abs, st.Dev, st.Ino
	return nil
}

// close closes the parent's descriptor and removes the path, if the name still leads to this very socket.
func (l *listener) close() {
	unix.Close(l.fd)
	if l.path == "" {
		return
	}
	var st unix.Stat_t
	if unix.Lstat(l.path, &st) == nil && st.Dev == l.dev && st.Ino == l.ino {
		os.Remove(l.path)
	}
}

// bind is the other bind with patience for those who are about to let go of the address.
func (p *Parent) bind(network, address string) (*listener, error) {
	l, err := bind(network, address, p.cfg.ClientTimeout)
	leaving := p.unclean
	if errors.Is(err, unix.EADDRINUSE) && p.service.dropRivals(p.log, network, address) {
		leaving = true
	}
	for end := time.Now().Add(orphanTime); leaving && errors.Is(err, unix.EADDRINUSE) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		l, err = bind(network, address, p.cfg.ClientTimeout)
	}
	return l, err
}

// tryListen reports whether a successor can listen where its configuration says and nobody has listened for this daemon yet: each
// of these addresses is bound for a moment, and all of them at once, for they may be in each other's way.
func (p *Parent) tryListen() error {
	if p.cfg.Dir != "" {
		if err := os.Chdir(p.cfg.Dir); err != nil {
			return fmt.Errorf("directory to run in: %w", err)
		}
	}
	if n := len(p.cfg.Listen); n > maxListeners {
		return fmt.Errorf("field Listen has %d addresses: there can be no more than %d listeners", n, maxListeners)
	}
	for _, a := range p.cfg.Listen {
		network, address, err := splitAddress(a)
		if err != nil {
			return err
		}
		if p.adoptListener(network, address) != nil {
			continue
		}
		l, err := bind(network, address, p.cfg.ClientTimeout)
		if err != nil {
			return err
		}
		defer l.close()
	}
	return nil
}

// Listen binds an address and hands the socket to every child; call it in AfterInit.
//
// network is "tcp", "tcp4", "tcp6" or "unix". The returned address is the one that the kernel gave, with the port that
// was free where 0 was asked for. A Unix socket's path is removed when the daemon stops, and one that a dead daemon
// left is taken over. A socket on this very address that the service manager has kept, or bound itself, is used in the place
// of a new one; what it has bound keeps its path.
func (p *Parent) Listen(network, address string) (net.Addr, error) {
	if p.listenDone {
		return nil, fmt.Errorf("listen on %s: children have been started, call Listen in AfterInit", address)
	}
	if len(p.listeners)+max(p.places(), 1) > maxListeners {
		return nil, fmt.Errorf("listen on %s: more than %d listeners", address, maxListeners)
	}
	l, err := p.adoptListener(network, address), error(nil)
	if l == nil {
		l, err = p.service.adopt(network, address)
	}
	if l == nil && err == nil {
		l, err = p.bind(network, address)
	}
	if err != nil {
		return nil, err
	}
	// One that was there before has what somebody else thought right.
	if err := inheritable(l.fd, network, p.cfg.ClientTimeout); err != nil {
		l.close()
		return nil, err
	}
	l.asked = [2]string{network, address}
	all, err := p.queues(l)
	p.listeners = append(p.listeners, all...)
	if err != nil {
		return nil, err
	}
	if l.path != "" && !l.lent && p.identity != nil {
		// Children's group may connect, as if a child had bound it.
		if err := os.Lchown(l.path, -1, int(p.identity.gid)); err != nil {
			return nil, err
		}
	}
	p.log.Info("listening", "network", l.network, "addr", l.addr)
	if l.path != "" {
		return &net.UnixAddr{Name: l.path, Net: "unix"}, nil
	}
	ap, err := netip.ParseAddrPort(l.addr)
	if err != nil {
		return nil, err
	}
	return net.TCPAddrFromAddrPort(ap), nil
}
