package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// lookUpTime is how long it may take to find out what names a host has. Its client waits for that if there are rules with
	// names, and in a child with one job at a time so do those behind him; a resolver waits for 5 s for each server, twice. Who
	// has been given two seconds and no answer gets none in the third.
	lookUpTime = 2 * time.Second
	// knownTime and unknownTime are for how long is remembered what has been found out, and that nothing could be. It saves the
	// second of two connections in a row the time; names are to be remembered by the resolver that is asked.
	knownTime   = 15 * time.Second
	unknownTime = 5 * time.Second
	// mostHosts is how many hosts are remembered.
	mostHosts = 256
	// mostLookUps is how many hosts are looked up at once: each needs a descriptor or two.
	mostLookUps = 32
	// mostNames is how many names of one host are followed: its owner may have given it any number.
	mostNames = 8
)

var errManyNames = errors.New("the host has more names than are looked at")

// A resolver is what hosts needs of net.Resolver.
type resolver interface {
	LookupAddr(ctx context.Context, addr string) ([]string, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// hosts finds out what names addresses have.
type hosts struct {
	resolver resolver
	limit    time.Duration
	places   chan struct{} // one for each that is looked up

	mu     sync.Mutex
	byAddr map[netip.Addr]*host
}

// A host is what is known of an address.
type host struct {
	found chan struct{} // closed when what follows is there
	names []string
	err   error
	until time.Time
}

// system is Go's own resolver: that of libc cannot be stopped, and needs a thread for each. A test has another one.
var system resolver = &net.Resolver{PreferGo: true}

func newHosts() *hosts { return hostsBy(system) }

func hostsBy(r resolver) *hosts {
	return &hosts{resolver: r, limit: lookUpTime, places: make(chan struct{}, mostLookUps), byAddr: map[netip.Addr]*host{}}
}

// known returns what names would, if that is known already.
func (h *hosts) known(a netip.Addr) (names []string, err error, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.byAddr[canonical(a)]
	if e == nil || !e.holds(time.Now()) {
		return nil, nil, false
	}
	return e.names, e.err, true
}

// names returns the names of an address that lead back to it, in lower case and in order; with an error if there may be more,
// which could not be found out in time.
func (h *hosts) names(a netip.Addr) ([]string, error) {
	a = canonical(a)
	h.mu.Lock()
	e := h.byAddr[a]
	mine := e == nil || e.isFound() && !e.holds(time.Now())
	if mine {
		e = &host{found: make(chan struct{})}
		h.remember(a, e)
	}
	h.mu.Unlock()
	if mine {
		h.lookUp(a, e)
	}
	<-e.found
	return e.names, e.err
}

// remember makes room for a host; h.mu is held. Those that wait for one that is forgotten get what they wait for.
func (h *hosts) remember(a netip.Addr, e *host) {
	if len(h.byAddr) >= mostHosts {
		now := time.Now()
		for other, o := range h.byAddr {
			if !o.holds(now) {
				delete(h.byAddr, other)
			}
		}
	}
	for other := range h.byAddr {
		if len(h.byAddr) < mostHosts {
			break
		}
		delete(h.byAddr, other)
	}
	h.byAddr[a] = e
}

func (e *host) isFound() bool {
	select {
	case <-e.found:
		return true
	default:
		return false
	}
}

// holds reports whether it is known and still to be believed.
func (e *host) holds(now time.Time) bool { return e.isFound() && now.Before(e.until) }

// lookUp finds a host's names out.
func (h *hosts) lookUp(a netip.Addr, e *host) {
	ctx, cancel := context.WithTimeout(context.Background(), h.limit)
	defer cancel()
	select {
	case h.places <- struct{}{}:
		e.names, e.err = h.confirmed(ctx, a)
		<-h.places
	case <-ctx.Done():
		e.err = ctx.Err()
	}
	e.until = time.Now().Add(knownTime)
	if len(e.names) == 0 || e.err != nil {
		e.until = time.Now().Add(unknownTime)
	}
	close(e.found)
}

// confirmed asks for the names of an address, and of each whether it leads back: who owns an address may have it lead to any
// name, but who owns the name says to which addresses that leads (CVE-2013-1841).
func (h *hosts) confirmed(ctx context.Context, a netip.Addr) (names []string, err error) {
	claimed, err := h.resolver.LookupAddr(ctx, a.String())
	if isNone(err) {
		return nil, nil
	}
	if len(claimed) > mostNames {
		claimed, err = claimed[:mostNames], errManyNames
	}
	network := "ip6"
	if a.Is4() {
		network = "ip4"
	}
	for _, name := range claimed {
		// With the dot at its end, which an answer of DNS has, it is looked for in no search domain.
		addrs, ferr := h.resolver.LookupNetIP(ctx, network, name)
		if ferr != nil && !isNone(ferr) {
			err = ferr
		}
		if slices.ContainsFunc(addrs, func(b netip.Addr) bool { return canonical(b) == a }) {
			names = append(names, strings.ToLower(strings.TrimSuffix(name, ".")))
		}
	}
	slices.Sort(names) // servers change the order
	return slices.Compact(names), err
}

// isNone reports whether the answer is that there is none.
func isNone(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}

// Waiters returns how many goroutines should range over Conns at once in a main loop with room for several jobs: one, unless names of
// clients' hosts are looked up before they may connect. Then it is as many as can be looked up at once, so that nobody waits behind
// somebody whose name is.
func (c *Child) Waiters() int {
	if c.rules.Named() {
		return min(c.cfg.Concurrency, mostLookUps)
	}
	return 1
}

// Host returns the name of the client's host, in lower case, or "" if it has none, or it could not be found out. A name counts only
// if it leads back to the client's address; of several it is the first in order. The first call waits until it is known, for 2 s at
// most, unless Config.ReverseLookups or a rule with names has had it looked for already. Clients on Unix sockets have none.
func (conn *Conn) Host() string {
	ip := conn.clientIP()
	if !ip.IsValid() {
		return ""
	}
	conn.asked.Do(func() {
		names, _ := conn.c.hosts.names(ip)
		conn.setHost(names)
	})
	return *conn.host.Load()
}

func (conn *Conn) setHost(names []string) {
	name := ""
	if len(names) > 0 {
		name = names[0]
	}
	conn.host.Store(&name)
}

// recallHost takes the name that is known already.
func (conn *Conn) recallHost() {
	ip := conn.clientIP()
	if !conn.c.cfg.ReverseLookups || !ip.IsValid() {
		return
	}
	if names, _, ok := conn.c.hosts.known(ip); ok {
		conn.asked.Do(func() { conn.setHost(names) })
	}
}

// findHost looks for the name while the first job of the connection runs, and tells the parent, who needs it if the child ends with
// the job. Where many are looked for already, this one is not: nobody waits for it.
func (conn *Conn) findHost(j *Job) {
	h := conn.c.hosts
	if !conn.c.cfg.ReverseLookups || !conn.clientIP().IsValid() || conn.host.Load() != nil || len(h.places) == cap(h.places) {
		return
	}
	go func() {
		if name := conn.Host(); name != "" && conn.c.tellsJobs {
			conn.c.access.Write(appendHost(nil, j.serial, name)) // if it is lost, the end of the job says it again
		}
	}()
}

// canonical is the address as it is compared.
func canonical(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
