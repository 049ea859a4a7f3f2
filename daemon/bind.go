package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// resolveTime is how long the name of a host may take to become its addresses.
	resolveTime = 10 * time.Second

	// orphanTime is how long the children of a parent that was killed may need to let go of its addresses.
	orphanTime = 3 * time.Second
)

// A spot is an address that can be bound, of a host's name one of several.
type spot struct {
	address
	named netip.Addr // which one of a host's name
}

// lookUpHost is how a host's name becomes its addresses. A test has another one.
var lookUpHost = net.DefaultResolver.LookupNetIP

// resolve finds out what an address means here. Package net would take 0.0.0.0 for the addresses of IPv6, too, and of a host's name
// one address.
func resolve(a address) ([]spot, error) {
	if family(a.Network) != "tcp" {
		return []spot{{address: a}}, nil
	}
	host, service, err := net.SplitHostPort(a.Text)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	number, err := net.LookupPort(a.Network, service)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; want a port or the name of a service in /etc/services", a, err)
	}
	port := strconv.Itoa(number)
	if ip, literal := a.literal(); literal || host == "" {
		at := address{a.Network, net.JoinHostPort(host, port)}
		if at.Network == "tcp" && ip.Is4() {
			at.Network = "tcp4"
		}
		return []spot{{address: at}}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTime)
	defer cancel()
	ips, err := lookUpHost(ctx, strings.Replace(a.Network, "tcp", "ip", 1), host)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	slices.SortStableFunc(ips, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	var spots []spot
	for _, ip := range slices.Compact(ips) {
		network := "tcp6"
		if ip.Is4() {
			network = "tcp4"
		}
		spots = append(spots, spot{address{network, net.JoinHostPort(ip.String(), port)}, ip})
	}
	return spots, nil
}

// family is the network of an address without the version of IP.
func family(network string) string { return strings.TrimRight(network, "46") }

// notHere reports whether nobody can listen on an address here.
func notHere(err error) bool {
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)
}

// listenConfig has every socket prepared before it is bound.
func listenConfig(prepare func(fd int) error) net.ListenConfig {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) { err = prepare(int(fd)) })
		return cmp.Or(cerr, err)
	}}
	// The kernel's tables show a client of an MPTCP socket as connected for ever.
	lc.SetMultipathTCP(false)
	return lc
}

// bind opens a listening socket that children can share. Nobody but this user can connect to a Unix socket yet.
func bind(network, address string, timeout time.Duration) (*listener, error) {
	lc := listenConfig(func(fd int) error {
		err := inheritable(fd, network, timeout)
		if err == nil && network == "unix" {
			// The path is born with this mode, less the umask.
			err = os.NewSyscallError("fchmod", unix.Fchmod(fd, 0o600))
		}
		return err
	})
	l, err := lc.Listen(context.Background(), network, address)
	if errors.Is(err, unix.EADDRINUSE) && network == "unix" {
		if why := removeStale(address); why != nil {
			return nil, fmt.Errorf("%w: %w", err, why)
		}
		l, err = lc.Listen(context.Background(), network, address)
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()
	out := &listener{network: family(network), addr: l.Addr().String()}
	switch l := l.(type) {
	case *net.TCPListener:
		out.port = uint16(l.Addr().(*net.TCPAddr).Port)
	case *net.UnixListener:
		l.SetUnlinkOnClose(false)
		out.path = address
		if err := out.claimPath(); err != nil {
			os.Remove(address)
			return nil, err
		}
	default:
		return nil, fmt.Errorf("cannot listen on %s %s: want tcp or unix", network, address)
	}
	out.fd, err = dup(l.(syscall.Conn))
	if err != nil {
		return nil, err
	}
	return out, nil
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
