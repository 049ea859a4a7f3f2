package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// maxListenName is longer than any name that is meant to be read.
const maxListenName = 64

// String writes an entry so that parseListen reads the same from it.
func (s listenSpec) String() string {
	var items []string
	family := ""
	for _, a := range s.Addresses {
		items = append(items, a.String())
		if a.Network == "tcp4" || a.Network == "tcp6" {
			family = a.Network
		}
	}
	add := func(name, value string) {
		if value != "" {
			items = append(items, name+value)
		}
	}
	add("", family)
	add("name=", s.Name)
	if s.Backlog > 0 {
		add("backlog=", fmt.Sprint(s.Backlog))
	}
	if s.Mode != 0 {
		add("mode=", fmt.Sprintf("%04o", uint32(s.Mode)))
	}
	owner := s.Owner
	if s.Group != "" {
		owner += ":" + s.Group
	}
	add("owner=", owner)
	add("cert=", s.Cert)
	add("key=", s.Key)
	add("proxy=", s.Proxy)
	for i, item := range items {
		items[i] = strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(item)
	}
	return strings.Join(items, ",")
}

// String writes an address as it stands in an entry.
func (a address) String() string {
	switch {
	case a.Network == "fd", a.Network == "unix" && !filepath.IsAbs(a.Text):
		return a.Network + ":" + a.Text
	}
	return a.Text
}

// nameOf is what a listener is called: as its entry says, else as the service manager calls the descriptor, else as its address was
// asked for.
func (s listenSpec) nameOf(a address) string {
	switch {
	case s.Name != "":
		return s.Name
	case a.Network == "fd":
		return a.Text
	}
	return a.String()
}

// clash reports what of an entry another one has already.
func (s listenSpec) clash(other listenSpec) error {
	for _, a := range s.Addresses {
		for _, b := range other.Addresses {
			if a == b && !a.anyPort() {
				return fmt.Errorf("listen %q: %s stands in another entry, too: %q", s, a, other)
			}
			if name := s.nameOf(a); name == other.nameOf(b) && (s.Name != "" || other.Name != "") {
				return fmt.Errorf("listen %q: another entry is called %s, too: %q", s, name, other)
			}
		}
	}
	return nil
}

// completeListen makes the paths of Config.Listen absolute.
func (cfg *Config) completeListen() error {
	specs, err := parseListens(cfg.Listen)
	if err != nil {
		return err
	}
	cfg.Listen = nil
	for _, s := range specs {
		if err := s.absolute(cfg); err != nil {
			return err
		}
		if cfg.Daemonize && slices.ContainsFunc(s.Addresses, func(a address) bool { return a.Network == "fd" }) {
			return fmt.Errorf("listen %q: descriptors of a service manager are not used with Daemonize: stay in the foreground", s)
		}
		cfg.Listen = append(cfg.Listen, s.String())
	}
	return nil
}

// absolute makes the paths of an entry absolute.
func (s *listenSpec) absolute(cfg *Config) error {
	for i, a := range s.Addresses {
		if a.Network != "unix" {
			continue
		}
		err := cfg.absolute(&a.Text)
		if s.Addresses[i] = a; err == nil {
			err = a.check()
		}
		if err != nil {
			return fmt.Errorf("listen %q: %s: %w", s, a, err)
		}
	}
	return cfg.absolute(&s.Cert, &s.Key)
}

// parseListens reads Config.Listen.
func parseListens(entries []string) ([]listenSpec, error) {
	var specs []listenSpec
	for _, entry := range entries {
		s, err := parseListen(entry)
		if err != nil {
			return nil, err
		}
		for _, other := range specs {
			if err := s.clash(other); err != nil {
				return nil, err
			}
		}
		specs = append(specs, s)
	}
	return specs, nil
}

func checkListenName(name string) error {
	if len(name) > maxListenName || !isName(name, "-_.") {
		return fmt.Errorf("want a name of letters, digits and -_., %d at most", maxListenName)
	}
	if strings.Trim(name, ".") == "" {
		return errors.New("want a name with a letter or a digit in it")
	}
	return nil
}

// isName reports whether a text is of letters, digits and some other characters, and not empty.
func isName(s, others string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(others, c)
	}) < 0
}
