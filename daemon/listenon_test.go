package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listeningParent is a parent before its first child, and what it has logged.
func listeningParent(t *testing.T) (*Parent, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	p := &Parent{cfg: Config{ClientTimeout: time.Minute}, log: slog.New(slog.NewTextHandler(&log, nil))}
	t.Cleanup(func() {
		for _, l := range p.listeners {
			l.close()
		}
	})
	return p, &log
}

func needIPv6(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6")
	}
	ln.Close()
}

// An address is of both families, or of one, as its entry says, and each port 0 is a port of its own.
func TestListenOnFamilies(t *testing.T) {
	needIPv6(t)
	for entry, want := range map[string][]string{
		":0":                      {"::"},
		"[::]:0":                  {"::"},
		":0,tcp6":                 {":: only"},
		":0,tcp4":                 {"0.0.0.0"},
		"0.0.0.0:0":               {"0.0.0.0"},
		"[::1]:0,127.0.0.1:0":     {"::1", "127.0.0.1"},
		"127.0.0.1:0,127.0.0.1:0": {"127.0.0.1", "127.0.0.1"},
	} {
		p, _ := listeningParent(t)
		addrs, err := p.ListenOn(entry)
		if err != nil {
			t.Errorf("%s: %v", entry, err)
			continue
		}
		ports := map[uint16]bool{}
		var got []string
		for i, l := range p.listeners {
			r, port, err := reachOf(l.fd)
			if ports[port] = true; err != nil || port == 0 || port != l.port || addrs[i].String() != l.addr || l.network != "tcp" {
				t.Errorf("%s: %+v, port %d, %v, %v", entry, l, port, addrs[i], err)
			}
			is := r.addr.String()
			if r.only6 && is == "::" {
				is += " only"
			}
			got = append(got, is)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || len(ports) != len(want) {
			t.Errorf("%s listens on %v, want %v", entry, got, want)
		}
	}
}

// A host's name is all the addresses of it that are this machine's, on one port; the same ones come from the parent before.
func TestListenOnHost(t *testing.T) {
	needIPv6(t)
	ips := []string{"::1", "192.0.2.1", "::ffff:127.0.0.1"}
	asked := ""
	defer func(was func(context.Context, string, string) ([]netip.Addr, error)) { lookUpHost = was }(lookUpHost)
	lookUpHost = func(_ context.Context, network, host string) (all []netip.Addr, err error) {
		asked = network + " " + host
		for _, ip := range ips {
			all = append(all, netip.MustParseAddr(ip))
		}
		return all, nil
	}
	p, log := listeningParent(t)
	addr, err := p.Listen("tcp", "both.example:0")
	if err != nil || asked != "ip both.example" || len(p.listeners) != 2 || addr.String() != p.listeners[0].addr ||
		!strings.HasPrefix(p.listeners[0].addr, "127.0.0.1:") || !strings.HasPrefix(p.listeners[1].addr, "[::1]:") {
		t.Fatalf("%v, %v, asked %s, log:\n%s", addr, err, asked, log)
	}
	if !strings.Contains(log.String(), "192.0.2.1:0") {
		t.Errorf("the log says nothing of the address that is not there:\n%s", log)
	}
	next, _ := listeningParent(t)
	next.handed = &handover{Listeners: []handedListener{p.listeners[1].handed(), p.listeners[0].handed()}}
	if _, err := next.ListenOn("both.example:0,name=both"); err != nil || len(next.listeners) != 2 ||
		next.listeners[0].fd != p.listeners[0].fd || next.listeners[1].fd != p.listeners[1].fd {
		t.Errorf("upgraded: %v, %+v", err, next.listeners)
	}
	p.listeners = nil
	ips = []string{"192.0.2.1"}
	if _, err := next.ListenOn("none.example:0"); !errors.Is(err, unix.EADDRNOTAVAIL) || len(next.listeners) != 2 {
		t.Errorf("of another machine: %v", err)
	}
	next.ListenOn("six.example:0,tcp6")
	if asked != "ip6 six.example" {
		t.Errorf("asked for %s", asked)
	}
}

// The name of a service is its port.
func TestListenOnService(t *testing.T) {
	f, err := os.Open("/etc/services")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		var port int
		if len(fields) < 2 || !strings.HasSuffix(fields[1], "/tcp") {
			continue
		}
		if fmt.Sscanf(fields[1], "%d/tcp", &port); port < 1024 {
			continue
		}
		p, _ := listeningParent(t)
		addrs, err := p.ListenOn("127.0.0.1:" + fields[0])
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil || addrs[0].(*net.TCPAddr).Port != port {
			t.Errorf("%s: %v, %v", lines.Text(), addrs, err)
		}
		if _, err := p.ListenOn("127.0.0.1:no-such-service"); err == nil || !strings.Contains(err.Error(), "/etc/services") {
			t.Errorf("of none: %v", err)
		}
		return
	}
	t.Skip("no service with a free port")
}

// An entry that cannot be had as a whole is not had in part.
func TestListenOnAllOrNone(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	path := filepath.Join(t.TempDir(), "s")
	p, _ := listeningParent(t)
	if _, err := p.ListenOn(path + "," + held.Addr().String()); !errors.Is(err, unix.EADDRINUSE) || len(p.listeners) != 0 {
		t.Errorf("%v, %d listeners", err, len(p.listeners))
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("its path is left: %v", err)
	}
	for _, entry := range []string{"nonsense", path + ",owner=no-such-user", path + ",owner=:no-such-group", "unix:" + strings.Repeat("x", 107)} {
		if _, err := p.ListenOn(entry); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(entry, "unix:")) || len(p.listeners) != 0 {
			t.Errorf("%s: %v", entry, err)
		}
	}
	if _, err := p.ListenOn(path + ",name=a"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.ListenOn("127.0.0.1:0,name=a"); err == nil || !strings.Contains(err.Error(), "another entry is called a") {
		t.Errorf("the name of another one: %v", err)
	}
	if _, err := p.Listen("unix", "@abstract"); err == nil || !strings.Contains(err.Error(), "want a path") {
		t.Errorf("without a path: %v", err)
	}
}

// backlogOf is how many clients may wait at a TCP listener (tcp_diag and TCP_INFO show it so).
func backlogOf(t *testing.T, l *listener) int {
	t.Helper()
	info, err := unix.GetsockoptTCPInfo(l.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sacked)
}

// A queue is as long as the entry says and the system allows, also that of a listener which was there before.
func TestListenOnBacklog(t *testing.T) {
	most := somaxconn()
	if most == 0 {
		t.Skip("no net.core.somaxconn")
	}
	p, log := listeningParent(t)
	handed := func(backlog string, want int) {
		t.Helper()
		if _, err := p.ListenOn("127.0.0.1:0" + backlog); err != nil {
			t.Fatal(err)
		}
		if got := backlogOf(t, p.listeners[0]); got != want {
			t.Errorf("%q: %d clients may wait, want %d", backlog, got, want)
		}
		p.handed = &handover{Listeners: []handedListener{p.listeners[0].handed()}}
		p.listeners = nil
	}
	handed("", most)
	if backlogOf(t, &listener{fd: p.handed.Listeners[0].FD}) == 0 {
		t.Skip("the kernel does not show it")
	}
	handed(",backlog=7", 7)
	handed(",backlog=9", 9)
	handed("", most)
	if log.Len() > 0 && strings.Contains(log.String(), "WARN") {
		t.Errorf("for nothing: %s", log)
	}
	handed(fmt.Sprintf(",backlog=%d", most+1), most)
	if want := fmt.Sprintf("backlog=%d limit=%d", most+1, most); !strings.Contains(log.String(), want) {
		t.Errorf("want %q in the log:\n%s", want, log)
	}
	for _, h := range p.handed.Listeners {
		h.close()
	}
}

// The children of a generation that began before an upgrade find in their papers what they have got, however many listeners there are.
func TestPapersRenewed(t *testing.T) {
	p, _ := listeningParent(t)
	was, err := papers{Listen: []listening{{Name: "old"}}}.seal()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range []string{"127.0.0.1:0,127.0.0.1:0,name=web,backlog=5", "127.0.0.1:0"} {
		if _, err := p.ListenOn(entry); err != nil {
			t.Fatal(err)
		}
	}
	fd, _, err := p.renewPapers(was)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	got, err := readPapers(fd)
	if err != nil || len(got.Listen) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, want := range []string{"web", "web", "127.0.0.1:0"} {
		l, err := adoptListener(p.listeners[i].fd, got.Listen[i])
		if err != nil || l.name != want || l.spec.Backlog != p.listeners[i].spec.Backlog || l.addr.String() != p.listeners[i].addr {
			t.Errorf("%d: %+v, %v", i, l, err)
		}
	}
}
