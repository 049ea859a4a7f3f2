package rules

import "slices"

// A Set is who may connect. The zero Set lets everybody in.
type Set struct {
	allow, deny []Rule
	named       bool
}

// New makes a Set of rules. Neither list is kept.
func New(allow, deny []Rule) Set {
	s := Set{allow: ordered(allow), deny: ordered(deny)}
	s.named = slices.ContainsFunc(s.allow, Rule.named) || slices.ContainsFunc(s.deny, Rule.named)
	return s
}

// ordered puts the rules that need names behind the others, so that nobody asks for names who does not need them.
func ordered(all []Rule) []Rule {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b Rule) int {
		switch {
		case a.named() == b.named():
			return 0
		case b.named():
			return -1
		}
		return 1
	})
	return all
}

// Empty reports whether there is no rule, so that everybody may connect.
func (s Set) Empty() bool { return len(s.allow)+len(s.deny) == 0 }

// Named reports whether a decision may need the names of a host, which takes time.
func (s Set) Named() bool { return s.named }

// Why a peer is refused whom no rule denies.
const notAllowed = "no allow rule matches"

// Refuses returns the rule by which a peer is refused, such as "deny 10.0.0.0/8" or "no allow rule matches", or "" if he may
// connect. names is called once at most, and only if the decision depends on it: it returns the names of an IP peer's host, each
// of which leads back to its address, with an error if there may be more that could not be found out.
func (s Set) Refuses(p Peer, names func() ([]string, error)) string {
	c := candidate{Peer: p, names: names}
	for _, r := range s.deny {
		if yes, known := c.is(r); yes || !known {
			return "deny " + r.text
		}
	}
	for _, r := range s.allow {
		if yes, known := c.is(r); yes && known {
			return ""
		}
	}
	if len(s.allow) == 0 {
		return ""
	}
	return notAllowed
}

// A candidate is a peer with what is known of his host's names.
type candidate struct {
	Peer
	names func() ([]string, error)
	asked bool
	found []string
	err   error
}

// is reports whether a rule is about the candidate, and whether that is known.
func (c *candidate) is(r Rule) (yes, known bool) {
	if !r.named() {
		return r.covers(c.Peer)
	}
	if c.Unix != nil {
		return false, true
	}
	if !c.asked {
		c.asked = true
		c.found, c.err = c.names()
	}
	if r.calls(c.found) {
		return true, true
	}
	return false, c.err == nil
}
