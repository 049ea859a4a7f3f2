package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// places is the number of queues of each TCP address; 0: children share one.
func (p *Parent) places() int {
	if p.cfg.Serialize != SerializeReuseport {
		return 0
	}
	return p.cfg.Prefork
}

// queues returns a listener and those that share its address with it: one for each place. The first of them has been bound
// alone, so nobody else has the address; what is bound to it from then on divides the clients with it.
func (p *Parent) queues(l *listener, a address, at spot) (all []*listener, err error) {
	all = []*listener{l}
	if p.places() == 0 || l.network == "unix" {
		return all, nil
	}
	if l.lent {
		return all, fmt.Errorf("listen on %s: the service manager has bound it already, once for all, and field Serialize is %q: "+
			"take it out of the socket unit, or set another mode", l.addr, SerializeReuseport)
	}
	if !l.kept { // or it has that already, and a trial has no more than its number
		if err := reusePort(l.fd); err != nil {
			return all, err
		}
	}
	for len(all) < p.places() {
		q := p.adoptListener(a, at.named)
		if q == nil {
			if q, err = l.another(at.Network, p.cfg.ClientTimeout); err != nil {
				return all, fmt.Errorf("listen on %s, queue %d: %w", l.addr, len(all)+1, err)
			}
		}
		all = append(all, q)
	}
	return all, nil
}

// reusePort lets other sockets be bound to the same address.
func reusePort(fd int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

// another binds one more socket to the same address.
func (l *listener) another(network string, timeout time.Duration) (*listener, error) {
	lc := listenConfig(func(fd int) error {
		if err := reusePort(fd); err != nil {
			return err
		}
		return inheritable(fd, l.network, timeout)
	})
	ln, err := lc.Listen(context.Background(), network, l.addr)
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	q := *l
	if q.fd, err = dup(ln.(*net.TCPListener)); err != nil {
		return nil, err
	}
	return &q, nil
}

// addresses are those of the listeners, each once, as the scoreboard shows them.
func (p *Parent) addresses() string {
	var addrs []string
	for i, l := range p.listeners {
		if i == 0 || !l.shares(p.listeners[i-1]) {
			addrs = append(addrs, l.shown())
		}
	}
	return strings.Join(addrs, " ")
}

// shares reports whether two listeners that stand together are queues of one address.
func (l *listener) shares(o *listener) bool { return l.network != "unix" && l.addr == o.addr }

// divide finds out which listeners are queues of one address.
func (t turnTaker) divide(all []*childListener) {
	for i, l := range all {
		l.first = l
		if t.mode != SerializeReuseport || !l.tcp {
			continue
		}
		l.queue = 0
		for _, o := range all[:i] {
			if o.tcp && o.addr.String() == l.addr.String() {
				l.first, l.queue = o.first, o.queue+1
			}
		}
	}
}

// serve makes the child wait on these queues and no others.
func (a *acceptor) serve(text string) error {
	queues := map[int]bool{}
	for _, f := range strings.Fields(text) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return fmt.Errorf("queues %q: %w", text, err)
		}
		queues[n] = true
	}
	return a.alone(func() error {
		a.queues = queues
		if a.paused {
			return nil
		}
		a.delAll()
		return a.addAll()
	})
}
