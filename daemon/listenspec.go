package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/brooddaemon/brood/internal/conffile"
)

// A listenSpec is one entry of Config.Listen: addresses, and how to listen on them. Children read it in their papers, so a field may be
// added, but what is there keeps its meaning.
type listenSpec struct {
	Addresses []address   `json:"addresses"`
	Name      string      `json:"name,omitempty"`
	Backlog   int         `json:"backlog,omitempty"` // 0: what the system allows
	Mode      fs.FileMode `json:"mode,omitempty"`    // of Unix sockets; 0: unixMode
	Owner     string      `json:"owner,omitempty"`   // of Unix sockets, a user's name or number
	Group     string      `json:"group,omitempty"`
	Cert      string      `json:"cert,omitempty"`
	Key       string      `json:"key,omitempty"`
	Proxy     string      `json:"proxy,omitempty"` // v1, v2 or any; empty: clients come without
}

// An address is where to listen, as it was asked for.
type address struct {
	Network string `json:"network"` // tcp, tcp4, tcp6, unix or fd
	Text    string `json:"text"`    // host:port, a path, or a descriptor's name or number
}

const (
	addressForms = "host:port, :port, :service, unix:/path, an absolute path or fd:NAME"
	// maxUnixPath is how long the path of a Unix socket may be (unix(7), sun_path, less the zero).
	maxUnixPath = 107
	maxBacklog  = 1<<31 - 1
	proxyAny    = "any"
)

var (
	listenOptions = []string{"name", "backlog", "mode", "owner", "cert", "key", "proxy"}
	listenWords   = []string{"proxy", "tcp4", "tcp6"}
)

// parseListen reads an entry. It asks nobody: whether there is such a host, service, user or descriptor is seen when it is listened on.
func parseListen(entry string) (listenSpec, error) {
	var s listenSpec
	items, err := splitItems(entry)
	given := map[string]bool{}
	for _, item := range items {
		if err != nil {
			break
		}
		if err = s.take(item, given); err != nil {
			err = fmt.Errorf("item %q: %w", item, err)
		}
	}
	if err == nil {
		err = s.settle(given)
	}
	if err != nil {
		return listenSpec{}, fmt.Errorf("listen %q: %w", entry, err)
	}
	return s, nil
}

// splitItems splits an entry at its commas. One with a backslash before it is none, and neither is a backslash behind another one.
func splitItems(entry string) ([]string, error) {
	items := []string{""}
	last := func() *string { return &items[len(items)-1] }
	for i := 0; i < len(entry); i++ {
		switch c := entry[i]; {
		case c < ' ' || c == 0x7f:
			return nil, fmt.Errorf("has a control character at byte %d", i)
		case c == ',':
			items = append(items, "")
		case c == '\\' && i+1 < len(entry) && strings.IndexByte(`,\`, entry[i+1]) >= 0:
			i++
			*last() += entry[i : i+1]
		case c == '\\':
			return nil, fmt.Errorf(`has a backslash at byte %d: one stands before a comma or another backslash, and is itself written \\`, i)
		default:
			*last() += entry[i : i+1]
		}
	}
	if entry == "" {
		return nil, errors.New("is empty: want " + addressForms)
	}
	return items, nil
}

// take takes one item.
func (s *listenSpec) take(item string, given map[string]bool) error {
	if item == "" {
		return errors.New("nothing stands there: take away the comma beside it")
	}
	if strings.TrimSpace(item) != item {
		return errors.New("take the blanks around it away")
	}
	name, value, isOption := strings.Cut(item, "=")
	isOption = isOption && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
	if !isOption && strings.ContainsAny(item, ":/@[") {
		a, err := parseAddress(item)
		if err != nil {
			return err
		}
		if slices.Contains(s.Addresses, a) && !a.anyPort() {
			return errors.New("the address is there twice")
		}
		s.Addresses = append(s.Addresses, a)
		return nil
	}
	known := listenOptions
	if !isOption {
		name, known = item, listenWords
	}
	if !slices.Contains(known, name) {
		return s.unknown(name, isOption)
	}
	if given[name] {
		return fmt.Errorf("%s is given twice", name)
	}
	given[name] = true
	if isOption && value == "" {
		return fmt.Errorf("nothing stands behind %s=: give it a value, or leave it away", name)
	}
	switch name {
	case "name":
		s.Name = value
		return checkListenName(value)
	case "backlog":
		n, err := strconv.ParseUint(value, 10, 31)
		if s.Backlog = int(n); err != nil {
			return fmt.Errorf("want a number of clients from 1 to %d, or 0 for as many as the system allows", maxBacklog)
		}
	case "mode":
		n, err := strconv.ParseUint(value, 8, 32)
		if s.Mode = fs.FileMode(n); err != nil || n == 0 || n > 0o777 {
			return errors.New("want an octal number from 0001 to 0777, such as 0660")
		}
	case "owner":
		var grouped bool
		if s.Owner, s.Group, grouped = strings.Cut(value, ":"); grouped && s.Group == "" || strings.Contains(s.Group, ":") {
			return errors.New("want USER, USER:GROUP or :GROUP, by name or number")
		}
	case "cert":
		s.Cert = value
	case "key":
		s.Key = value
	case "proxy":
		if s.Proxy = value; !isOption {
			s.Proxy = proxyAny
		}
		if !slices.Contains([]string{"v1", "v2", proxyAny}, s.Proxy) {
			return errors.New("want proxy=v1, proxy=v2, or proxy for either (proxy=any)")
		}
	}
	return nil
}

// unknown is the error of an item that means nothing, with what may have been meant.
func (s *listenSpec) unknown(name string, isOption bool) error {
	forms := slices.Clone(listenWords)
	for _, o := range listenOptions {
		forms = append(forms, o+"=")
	}
	text := "neither an address (" + addressForms + ") nor one of " + strings.Join(forms, ", ")
	if _, err := strconv.ParseUint(name, 10, 16); err == nil && !isOption {
		text = fmt.Sprintf("a port alone is no address: want :%s for all addresses of this host, or host:%s", name, name)
	} else if ip, err := netip.ParseAddr(name); err == nil && !isOption {
		text = fmt.Sprintf("no port: want %s", net.JoinHostPort(ip.String(), "port"))
	} else if near := conffile.Nearest(name, append(listenWords, listenOptions...)); near != "" {
		switch {
		case slices.Contains(listenWords, near) && (!isOption || near != "proxy"):
			text = fmt.Sprintf("no such word: is %s meant?", near)
		default:
			text = fmt.Sprintf("no such option: is %s=VALUE meant?", near)
		}
	}
	if n := len(s.Addresses); n > 0 && s.Addresses[n-1].Network == "unix" {
		text += `; a comma in a path is written \,`
	}
	return errors.New(text)
}

// settle looks whether the items fit each other.
func (s *listenSpec) settle(given map[string]bool) error {
	has := func(network string) bool {
		return slices.ContainsFunc(s.Addresses, func(a address) bool { return a.Network == network })
	}
	switch {
	case len(s.Addresses) == 0:
		return errors.New("has no address: want " + addressForms)
	case (given["mode"] || given["owner"]) && !has("unix"):
		return errors.New("mode and owner are for the paths of Unix sockets, and there is none")
	case given["cert"] != given["key"]:
		return errors.New("cert and key, both or neither: files in PEM with the certificates and with their key")
	case given["tcp4"] && given["tcp6"]:
		return errors.New("tcp4 and tcp6 together: leave both away to listen for both")
	}
	for _, family := range []string{"tcp4", "tcp6"} {
		if !given[family] {
			continue
		}
		if !has("tcp") {
			return fmt.Errorf("%s is for host:port, and there is none", family)
		}
		for i, a := range s.Addresses {
			if ip, literal := a.literal(); literal && ip.Unmap().Is4() != (family == "tcp4") {
				return fmt.Errorf("%s is not for %s: leave it away, or give that an entry of its own", family, a.Text)
			}
			if a.Network == "tcp" {
				s.Addresses[i].Network = family
			}
		}
	}
	return nil
}

func parseAddress(item string) (address, error) {
	path, isUnix := strings.CutPrefix(item, "unix:")
	if isUnix || filepath.IsAbs(item) {
		a := address{"unix", path}
		return a, a.check()
	}
	if name, isFD := strings.CutPrefix(item, "fd:"); isFD {
		a := address{"fd", name}
		return a, a.check()
	}
	a := address{"tcp", item}
	return a, a.check()
}

// check reports what is wrong with an address as far as it can be seen from its text.
func (a address) check() error {
	switch {
	case a.Network == "unix" && a.Text == "":
		return errors.New("no path stands behind it: want unix:/path")
	case a.Network == "unix" && a.Text[0] == '@':
		return errors.New("an abstract Unix socket has no mode, so anybody on this host could connect: want a path")
	case a.Network == "unix" && len(a.Text) > maxUnixPath:
		return fmt.Errorf("the path has %d bytes, and that of a Unix socket %d at most", len(a.Text), maxUnixPath)
	case a.Network == "unix":
		return nil
	case a.Network == "fd" && strings.HasPrefix(a.Text, storePrefix):
		return fmt.Errorf("names with %s are those of the daemon's own listeners: give the socket unit another FileDescriptorName=", storePrefix)
	case a.Network == "fd" && (a.Text == "" || strings.Contains(a.Text, ":")):
		return errors.New("want the name or the number of a descriptor behind fd:, without a colon in it")
	case a.Network == "fd":
		return nil
	}
	host, port, err := net.SplitHostPort(a.Text)
	if err != nil {
		if ip, iperr := netip.ParseAddr(a.Text); iperr == nil {
			return fmt.Errorf("no port: want %s", net.JoinHostPort(ip.String(), "port"))
		}
		if i := strings.LastIndexByte(a.Text, ':'); i > 0 && strings.Contains(a.Text[:i], ":") {
			return errors.New("too many colons: IPv6 addresses stand in brackets, [::1]:80")
		}
		return errors.New("want " + addressForms)
	}
	if n, err := strconv.Atoi(port); err == nil && (n < 0 || n > 65535) || port == "" {
		return errors.New("want a port from 1 to 65535, 0 for a free one, or the name of a service")
	}
	if !isName(port, "-_+.") {
		return fmt.Errorf("%q is neither a port nor the name of a service", port)
	}
	if _, literal := a.literal(); !literal && host != "" && !isName(host, "-_.") {
		if host == "*" {
			return fmt.Errorf("want :%s for all addresses of this host", port)
		}
		return fmt.Errorf("%q is neither an IP address nor the name of a host", host)
	}
	return nil
}

// literal returns the IP address that stands in it, if there is one.
func (a address) literal() (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(a.Text)
	if err != nil || !strings.HasPrefix(a.Network, "tcp") {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(host)
	return ip, err == nil
}

// anyPort reports whether the system is to choose the port.
func (a address) anyPort() bool {
	return strings.HasPrefix(a.Network, "tcp") && strings.HasSuffix(a.Text, ":0")
}
