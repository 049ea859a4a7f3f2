package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Rule says whom it is about.
type Rule struct {
	text    string
	about   about
	prefix  netip.Prefix
	pattern *regexp.Regexp
	name    string // in lower case; of a domain with the dot before it
	id      uint32
}

// about is what a rule looks at.
type about uint8

const (
	aboutPrefix about = iota
	aboutText
	aboutHost
	aboutDomain
	aboutUser
	aboutGroup
	aboutUnix
	aboutAll
)

// String returns the rule as it was written.
func (r Rule) String() string { return r.text }

// named reports whether the rule needs the names of a host.
func (r Rule) named() bool { return r.about == aboutHost || r.about == aboutDomain }

// Parse reads one rule. Users and groups are looked up in the system's tables. The error names the rule and the way out.
func Parse(text string) (Rule, error) {
	r, err := parse(text)
	if err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", text, err)
	}
	r.text = text
	return r, nil
}

func parse(text string) (Rule, error) {
	word, id, hasID := strings.Cut(text, ":")
	switch {
	case text == "":
		return Rule{}, errors.New("want a prefix, an address, /REGEXP/, a host name, .DOMAIN, uid:USER, gid:GROUP, unix or all")
	case strings.EqualFold(text, "all"): // or it would be about a host of that name, and deny nobody
		return Rule{about: aboutAll}, nil
	case strings.EqualFold(text, "unix"):
		return Rule{about: aboutUnix}, nil
	case hasID && word == "uid":
		n, err := number(id, lookUpUser)
		return Rule{about: aboutUser, id: n}, err
	case hasID && word == "gid":
		n, err := number(id, lookUpGroup)
		return Rule{about: aboutGroup, id: n}, err
	case text[0] == '/':
		return parsePattern(text)
	case strings.Contains(text, "/"):
		return parsePrefix(text)
	case strings.Contains(text, ":"), numeric(text[strings.LastIndexByte(text, '.')+1:]):
		return parseAddr(text)
	}
	return parseName(text)
}

// numeric reports whether a text is made of digits: no top-level domain is (RFC 3696, section 2).
func numeric(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func parsePattern(text string) (Rule, error) {
	if len(text) < 3 || !strings.HasSuffix(text, "/") {
		return Rule{}, errors.New("a regular expression stands between two slashes")
	}
	re, err := regexp.Compile(text[1 : len(text)-1])
	if err != nil {
		return Rule{}, err
	}
	re.Longest() // see Rule.covers
	return Rule{about: aboutText, pattern: re}, nil
}

func parsePrefix(text string) (Rule, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return Rule{}, plain(err)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return Rule{}, errors.New("it is of IPv4 and of more: want 0.0.0.0/0 for all of IPv4, ::/0 for all of IPv6")
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return Rule{about: aboutPrefix, prefix: p}, nil
}

func parseAddr(text string) (Rule, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return Rule{}, plain(err)
	}
	if a.Zone() != "" {
		return Rule{}, fmt.Errorf("zones are not looked at: want %s", a.WithZone(""))
	}
	a = a.Unmap()
	return Rule{about: aboutPrefix, prefix: netip.PrefixFrom(a, a.BitLen())}, nil
}

// plain leaves away what package netip says of itself: the rule is named already.
func plain(err error) error {
	reason := err.Error()
	if i := strings.LastIndex(reason, "): "); i >= 0 {
		reason = reason[i+3:]
	}
	if strings.Contains(reason, "leading zero") {
		reason += ": some take such a number for an octal one"
	}
	return errors.New(reason)
}

// hostName is a name as DNS has it; underscores are not for hosts, but there are some.
var hostName = regexp.MustCompile(`^\.?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)

func parseName(text string) (Rule, error) {
	name := canonical(text)
	if domain, starred := strings.CutPrefix(name, "*."); starred {
		return Rule{}, fmt.Errorf("want .%s for all names that end so", domain)
	}
	if strings.HasSuffix(name, ".*") {
		return Rule{}, errors.New("want a prefix, such as 10.0.0.0/8")
	}
	if !hostName.MatchString(name) || len(name) > 253 {
		return Rule{}, errors.New("it is neither an address nor the name of a host (of one in another script: xn--…)")
	}
	if name[0] == '.' {
		return Rule{about: aboutDomain, name: name}, nil
	}
	return Rule{about: aboutHost, name: name}, nil
}

// canonical writes a name as all of them are compared.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// number is that of a user or group, by name or number.
func number(id string, lookUp func(string) (string, error)) (uint32, error) {
	digits := id
	if id != "" && !numeric(id) {
		var err error
		if digits, err = lookUp(id); err != nil {
			return 0, err
		}
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n == nobody {
		return 0, fmt.Errorf("%q is no name or number of a user or group", id)
	}
	return uint32(n), nil
}

// nobody is the number by which system calls mean none.
const nobody = 1<<32 - 1

func lookUpUser(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func lookUpGroup(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}

// covers reports whether a rule that needs no names is about the peer, and whether that is known.
func (r Rule) covers(p Peer) (yes, known bool) {
	switch r.about {
	case aboutAll:
		return true, true
	case aboutPrefix:
		return r.prefix.Contains(p.addr()), true
	case aboutText:
		if p.Unix != nil {
			return false, true
		}
		text := p.addr().String()
		// The leftmost match, and the longest there: if any match is the whole text, this one is. So nothing that the expression
		// may contain, such as |, ) or \Q, gets out of it.
		at := r.pattern.FindStringIndex(text)
		return at != nil && at[0] == 0 && at[1] == len(text), true
	case aboutUnix:
		return p.Unix != nil, true
	}
	if p.Unix == nil {
		return false, true
	}
	if r.about == aboutUser {
		return p.Unix.UID == r.id, p.Unix.Known
	}
	return slices.Contains(p.Unix.Groups, r.id), p.Unix.Known
}

// calls reports whether one of these names is what the rule is about.
func (r Rule) calls(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		name = canonical(name)
		return name == r.name || r.about == aboutDomain && strings.HasSuffix(name, r.name)
	})
}

// A Peer is who connects.
type Peer struct {
	Addr netip.Addr // of an IP peer
	Unix *Process   // of a peer on a Unix socket; nil: it is an IP peer
}

// A Process is at the other end of a Unix socket.
type Process struct {
	Known  bool // what follows could be found out
	UID    uint32
	Groups []uint32 // all that it is in
}

// addr is the address as rules see it, the zero Addr of a peer on a Unix socket.
func (p Peer) addr() netip.Addr {
	if p.Unix != nil {
		return netip.Addr{}
	}
	return p.Addr.Unmap().WithZone("")
}

// String is how logs show the peer.
func (p Peer) String() string {
	switch {
	case p.Unix == nil:
		return p.addr().String()
	case !p.Unix.Known:
		return "unix"
	}
	return fmt.Sprintf("unix uid %d", p.Unix.UID)
}
