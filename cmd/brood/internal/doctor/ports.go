package doctor

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A socket listens.
type socket struct {
	addr  netip.AddrPort
	path  string // of a Unix socket
	inode uint64
	user  int
}

// ports looks who listens on the daemon's addresses.
func ports(s System, d Daemon) []Finding {
	var found []Finding
	all := s.listening(d)
	for _, address := range d.Listen {
		found = append(found, s.port(d, address, all)...)
	}
	return found
}

// port looks who listens on one of them.
func (s System) port(d Daemon, address string, all []socket) []Finding {
	const check = "listeners"
	match, err := matcher(address)
	if err != nil {
		return one(Fail, check, "want host:port, :port or unix:/path", "%s is no address: %v", address, err)
	}
	all = slices.DeleteFunc(slices.Clone(all), func(so socket) bool { return !match(so) })
	if len(all) == 0 {
		if d.PID != 0 {
			return one(Fail, check, "look into the log for who has closed it; brood upgrade binds it again", "nobody listens on %s", address)
		}
		return one(OK, check, "", "%s is free", address)
	}
	ours := append([]int{d.PID}, d.Children...)
	var found []Finding
	for _, so := range all {
		holders, hidden := s.holders(so.inode)
		var who []string
		mine := false
		for _, pid := range holders {
			mine = mine || d.PID != 0 && slices.Contains(ours, pid)
			who = append(who, fmt.Sprintf("process %d (%s)", pid, s.name(pid)))
		}
		switch {
		case mine:
		case len(who) > 0:
			found = append(found, one(Fail, check, "stop it, or listen elsewhere", "%s is held by %s of user %d", address, strings.Join(who, ", "), so.user)...)
		case hidden > 0:
			found = append(found, one(Fail, check, "run brood doctor as root to see by whom", "%s is held by a process of user %d that cannot be seen: "+
				"the descriptors of %d processes are hidden", address, so.user, hidden)...)
		default:
			found = append(found, one(Fail, check, "look in other containers and pid namespaces", "%s is held by a process of user %d that is not to be seen from here",
				address, so.user)...)
		}
	}
	if len(found) == 0 {
		return one(OK, check, "", "%s is the daemon's", address)
	}
	return found
}

// matcher returns what tells whether a socket would be in the way of an address.
func matcher(address string) (func(socket) bool, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return func(so socket) bool { return so.path == path }, nil
	}
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@") {
		return func(so socket) bool { return so.path == address }, nil
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil {
		return nil, err
	}
	want, err := netip.ParseAddr(host)
	if err != nil { // a name, or none
		want = netip.IPv6Unspecified()
	}
	want = want.Unmap().WithZone("")
	return func(so socket) bool {
		have := so.addr.Addr().Unmap()
		return so.path == "" && int(so.addr.Port()) == port &&
			(have == want || have == netip.IPv6Unspecified() || want == netip.IPv6Unspecified() ||
				have == netip.IPv4Unspecified() && want.Is4() || want == netip.IPv4Unspecified() && have.Is4())
	}, nil
}

// listening are the sockets on which somebody listens, in the daemon's network namespace.
func (s System) listening(d Daemon) []socket {
	var all []socket
	for _, table := range []string{"tcp", "tcp6"} {
		text, _ := s.read(s.net(d, table))
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" {
				continue
			}
			addr, err := kernelAddr(f[1])
			inode, err2 := strconv.ParseUint(f[9], 10, 64)
			user, err3 := strconv.Atoi(f[7])
			if err == nil && err2 == nil && err3 == nil {
				all = append(all, socket{addr: addr, inode: inode, user: user})
			}
		}
	}
	text, _ := s.read(s.net(d, "unix"))
	for line := range strings.Lines(text) {
		// Num RefCount Protocol Flags Type St Inode Path; the flag is SO_ACCEPTCON.
		f := strings.Fields(line)
		if len(f) < 8 || f[3] != "00010000" {
			continue
		}
		if inode, err := strconv.ParseUint(f[6], 10, 64); err == nil {
			all = append(all, socket{path: f[7], inode: inode, user: s.owner(s.path(f[7]))})
		}
	}
	return all
}

// kernelAddr reads an address as the kernel writes it: words of four bytes in the machine's order, in hexadecimal.
func kernelAddr(text string) (netip.AddrPort, error) {
	addr, port, ok := strings.Cut(text, ":")
	b, err := hex.DecodeString(addr)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("no address: %q", text)
	}
	if littleEndian {
		for i := 0; i < len(b); i += 4 {
			slices.Reverse(b[i : i+4])
		}
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("no address: %q", text)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), nil
}

// holders are the processes that have a socket open; hidden is how many cannot be looked into.
func (s System) holders(inode uint64) (pids []int, hidden int) {
	want := fmt.Sprintf("socket:[%d]", inode)
	for _, p := range s.processes() {
		fds, err := os.ReadDir(s.proc(p, "fd"))
		if os.IsPermission(err) {
			hidden++
		}
		for _, fd := range fds {
			if to, _ := os.Readlink(s.proc(p, "fd", fd.Name())); to == want {
				pids = append(pids, p)
				break
			}
		}
	}
	return pids, hidden
}
