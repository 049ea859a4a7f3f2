package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

// A listener is a bound socket in the parent: a bare descriptor, because the parent never accepts and must not be
// woken by those who connect.
type listener struct {
	fd      int
	asked   address    // as it was asked for
	spec    listenSpec // of which that is one address
	network string     // tcp or unix
	addr    string     // as the kernel gave it
	port    uint16     // of tcp
	path    string     // of unix
	dev     uint64     // of the path, to see that it is still ours
	ino     uint64
	kept    bool   // it was there before this program
	lent    bool   // by a service manager that has bound it itself: the path is not ours
	given   string // its name among the descriptors of a service manager
	stored  string // its name in the service manager's store; empty: it is not there
}

// Listen binds an address and hands the socket to every child; call it in AfterInit.
//
// network is "tcp", "tcp4", "tcp6" or "unix". The returned address is the one that the kernel gave, with the port that
// was free where 0 was asked for. A host's name is all of its addresses that this machine has, IPv4 first; the first is returned. A
// Unix socket's path is removed when the daemon stops, and one that a dead daemon left is taken over. A socket on this very address
// that the service manager has kept, or bound itself, is used in the place of a new one; what it has bound keeps its path.
// ListenOn is for everything else that an entry of Config.Listen can say.
func (p *Parent) Listen(network, addr string) (net.Addr, error) {
	addrs, err := p.listen(listenSpec{Addresses: []address{{network, addr}}})
	if err != nil {
		return nil, err
	}
	return addrs[0], nil
}

// ListenOn listens as an entry of Config.Listen says, and hands the sockets to every child; call it in AfterInit. It returns their
// addresses as the kernel gave them, and after an error it listens on none of them.
func (p *Parent) ListenOn(entry string) ([]net.Addr, error) {
	s, err := parseListen(entry)
	if err == nil {
		err = s.absolute(new(Config))
	}
	if err != nil {
		return nil, err
	}
	return p.listen(s)
}

func (p *Parent) listen(s listenSpec) (_ []net.Addr, err error) {
	if p.listenDone {
		return nil, fmt.Errorf("listen on %s: children have been started, call Listen in AfterInit", s)
	}
	before := len(p.listeners)
	if before >= maxListeners {
		return nil, fmt.Errorf("listen on %s: more than %d listeners", s, maxListeners)
	}
	for _, l := range p.listeners {
		if err := s.clash(l.spec); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			for _, l := range p.listeners[before:] {
				p.giveBack(l)
			}
			p.listeners = p.listeners[:before]
		}
	}()
	for _, a := range s.Addresses {
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", a, err)
		}
		opened, err := p.open(a)
		for _, l := range opened {
			l.asked, l.spec = a, s
		}
		p.listeners = append(p.listeners, opened...)
		if err != nil {
			return nil, err
		}
	}
	if len(p.listeners) > maxListeners {
		return nil, fmt.Errorf("listen on %s: more than %d listeners", s, maxListeners)
	}
	var addrs []net.Addr
	for i, l := range p.listeners[before:] {
		if err := p.adjust(l); err != nil {
			return nil, err
		}
		if i > 0 && l.shares(p.listeners[before+i-1]) {
			continue
		}
		addrs = append(addrs, l.netAddr())
		about := []any{"network", l.network, "addr", l.addr}
		if s.Name != "" {
			about = append(about, "name", s.Name)
		}
		p.log.Info("listening", about...)
	}
	return addrs, nil
}

// giveBack ends a listener that was opened in vain. One that was there before is as if nobody had asked for it: what becomes of it depends
// on whether the daemon comes up without it.
func (p *Parent) giveBack(l *listener) {
	switch {
	case !l.kept:
		l.close()
	case p.handed != nil:
		p.handed.Listeners = append(p.handed.Listeners, l.handed())
	default:
		p.service.given = append(p.service.given, inherit.Given{FD: l.fd, Name: l.given})
	}
}

// open returns the listeners of an address: those that were there before, else new ones.
func (p *Parent) open(a address) ([]*listener, error) {
	if a.Network == "fd" {
		all, err := p.takeGiven(a)
		for _, l := range all {
			if err == nil {
				_, err = p.queues(l, a, spot{})
			}
		}
		return all, err
	}
	spots, err := resolve(a)
	if err != nil {
		return nil, err
	}
	var all []*listener
	var none error
	for _, at := range spots {
		l, err := p.adoptListener(a, at.named), error(nil)
		if l == nil {
			l, err = p.service.adopt(at.Network, at.Text)
		}
		if l == nil && err == nil {
			l, err = p.bind(at.Network, at.Text)
		}
		switch {
		case err == nil:
			queues, err := p.queues(l, a, at)
			if all = append(all, queues...); err != nil {
				return all, err
			}
		case at.named.IsValid() && notHere(err):
			none = err
			p.log.Info("not listening on an address that this machine does not have", "host", a.Text, "addr", at.Text)
		default:
			return all, err
		}
	}
	if len(all) == 0 {
		return nil, none
	}
	return all, nil
}

// tryListen reports whether a successor can listen where its configuration says and nobody has listened for this daemon yet: each
// of these addresses is bound for a moment, and all of them at once, for they may be in each other's way. Children of old generations will
// listen there, too, so a certificate that cannot be used would leave nobody to take the place of one that dies.
func (p *Parent) tryListen() error {
	if p.cfg.Dir != "" {
		if err := os.Chdir(p.cfg.Dir); err != nil {
			return fmt.Errorf("directory to run in: %w", err)
		}
	}
	p.log = slog.New(slog.DiscardHandler)
	specs, err := parseListens(p.cfg.Listen)
	if err != nil {
		return err
	}
	n := 0
	for _, s := range specs {
		if _, _, err := s.owner(); err != nil {
			return err
		}
		for _, a := range s.Addresses {
			opened, err := p.open(a)
			for _, l := range opened {
				if !l.kept {
					defer l.close()
				}
			}
			if n += len(opened); err != nil {
				return err
			}
		}
	}
	if n > maxListeners {
		return fmt.Errorf("field Listen has %d addresses: there can be no more than %d listeners", n, maxListeners)
	}
	return p.tryPairs(specs)
}

// adjust makes a listener what its entry says. One that was there before has what somebody else thought right.
func (p *Parent) adjust(l *listener) error {
	if err := inheritable(l.fd, l.network, p.cfg.ClientTimeout); err != nil {
		return err
	}
	if err := p.adjustBacklog(l); err != nil {
		return err
	}
	if l.path == "" {
		return nil
	}
	if l.lent {
		if l.spec.Mode != 0 || l.spec.Owner != "" || l.spec.Group != "" {
			p.log.Warn("mode and owner of a socket that the service manager has bound are for its unit to say (SocketMode=, SocketUser=)", "addr", l.addr)
		}
		return nil
	}
	return l.letIn(p.identity)
}

// adjustBacklog says how many clients may wait at a listener.
func (p *Parent) adjustBacklog(l *listener) error {
	n := l.spec.Backlog
	if n == 0 {
		if !l.kept || l.lent {
			return nil // what the system allows it has, and what a unit says is meant
		}
		n = maxBacklog
	} else if most := somaxconn(); most > 0 && n > most {
		p.log.Warn("fewer clients can wait at a listener than its backlog says: the limit of the system is lower (sysctl net.core.somaxconn)",
			"addr", l.addr, "backlog", n, "limit", most)
	}
	return os.NewSyscallError("listen", unix.Listen(l.fd, n))
}

// somaxconn is how many clients may wait at any listener; 0: nobody knows.
func somaxconn() int {
	text, _ := os.ReadFile("/proc/sys/net/core/somaxconn")
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

func (l *listener) netAddr() net.Addr {
	if l.network == "unix" {
		return &net.UnixAddr{Name: cmp.Or(l.path, l.addr), Net: "unix"}
	}
	ap, _ := netip.ParseAddrPort(l.addr) // it comes from one
	return net.TCPAddrFromAddrPort(ap)
}

// shown is a listener as the scoreboard shows it.
func (l *listener) shown() string {
	if l.spec.Name != "" {
		return l.spec.Name + "=" + l.addr
	}
	return l.addr
}
