package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

// What was there before an entry failed is left as it was: a parent that comes to nothing leaves it, and the path that leads to it, to
// the next one.
func TestListenOnGivesBack(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	path := filepath.Join(t.TempDir(), "s")
	for _, handed := range []bool{false, true} {
		p, _ := listeningParent(t)
		fd := keep(t, "unix", path)
		l := &listener{fd: fd, path: path}
		name := l.storeName()
		entry := path + "," + held.Addr().String()
		if handed {
			if err := l.claimPath(); err != nil {
				t.Fatal(err)
			}
			l.asked, l.network, l.addr, l.stored = address{"unix", path}, "unix", path, name
			p.handed = &handover{Listeners: []handedListener{l.handed()}}
		} else {
			lent := keep(t, "tcp", "127.0.0.1:0")
			p.service.given = []inherit.Given{{FD: fd, Name: name}, {FD: lent, Name: "web"}}
			entry = "fd:web," + entry
			defer unix.Close(lent)
		}
		if _, err := p.ListenOn(entry); !errors.Is(err, unix.EADDRINUSE) || len(p.listeners) != 0 {
			t.Errorf("handed over: %v; %v, %d listeners", handed, err, len(p.listeners))
		}
		switch {
		case handed:
			if d := cmp.Diff([]handedListener{l.handed()}, p.handed.Listeners); d != "" {
				t.Error(d)
			}
		case len(p.service.given) != 2 || p.service.given[0].Name != "web" || p.service.given[1].Name != name || p.service.given[1].FD != fd:
			t.Errorf("%+v", p.service.given)
		}
		if c, err := net.Dial("unix", path); err != nil {
			t.Errorf("handed over: %v; %v", handed, err)
		} else {
			c.Close()
		}
		unix.Close(fd)
		os.Remove(path)
	}
}

// A socket that the service manager has bound is one queue, so children who each have their own cannot share it, by whatever name it is
// asked for. One of Unix is shared in every mode.
func TestListenOnGivenQueues(t *testing.T) {
	p, _ := listeningParent(t)
	p.cfg.Serialize, p.cfg.Prefork = SerializeReuseport, 3
	tcp, local := keep(t, "tcp", "127.0.0.1:0"), keep(t, "unix", filepath.Join(t.TempDir(), "s"))
	p.service.given = []inherit.Given{{FD: tcp, Name: "web"}, {FD: local, Name: "api"}}
	sa, err := unix.Getsockname(tcp)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range []string{"fd:web", addrPort(sa).String()} {
		if _, err := p.ListenOn(entry); err == nil || !strings.Contains(err.Error(), "the service manager has bound it already") || len(p.listeners) != 0 {
			t.Errorf("%s: %v, %d listeners", entry, err, len(p.listeners))
		}
	}
	if _, err := p.ListenOn("fd:api"); err != nil || len(p.listeners) != 1 || len(p.service.given) != 1 {
		t.Errorf("fd:api: %v, %d listeners, left %+v", err, len(p.listeners), p.service.given)
	}
	unix.Close(tcp)
}

// fd:NAME is what the service manager has bound under that name, all of it, and nothing else.
func TestListenOnGiven(t *testing.T) {
	given := func(p *Parent, name string, fd int) int {
		p.service.given = append(p.service.given, inherit.Given{FD: fd, Name: name})
		return fd
	}
	p, log := listeningParent(t)
	path := filepath.Join(t.TempDir(), "s")
	one := given(p, "web", keep(t, "tcp", "127.0.0.1:0"))
	ours := given(p, storePrefix+"x", keep(t, "tcp", "127.0.0.1:0"))
	two := given(p, "web", keep(t, "unix", path))
	three := given(p, "api", keep(t, "tcp4", "127.0.0.1:0"))
	datagrams, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	given(p, "udp", datagrams)
	defer func() {
		for _, g := range p.service.given {
			unix.Close(g.FD)
		}
	}()
	os.Chmod(path, 0o640)
	for entry, want := range map[string]string{
		"fd:none":                      fmt.Sprintf("no such descriptor: there are %d=web %d=web %d=api %d=udp", one, two, three, datagrams),
		"fd:99999":                     "no such descriptor",
		fmt.Sprintf("fd:%d", ours):     "no such descriptor",
		"fd:udp":                       fmt.Sprintf("descriptor %d=udp does not listen", datagrams),
		"127.0.0.1:0,fd:udp,name=both": "Accept=yes",
	} {
		if _, err := p.ListenOn(entry); err == nil || !strings.Contains(err.Error(), want) || len(p.listeners) != 0 || len(p.service.given) != 5 {
			t.Errorf("%s: %v, want %q", entry, err, want)
		}
	}
	addrs, err := p.ListenOn("fd:web," + path + "-mine,mode=0600,backlog=5")
	_, err3 := p.ListenOn(fmt.Sprintf("fd:%d,name=third", three))
	if err != nil || err3 != nil || len(p.listeners) != 4 || p.listeners[0].fd != one || p.listeners[1].fd != two || p.listeners[3].fd != three ||
		addrs[1].String() != path || p.listeners[0].network != "tcp" || p.listeners[0].port == 0 {
		t.Fatalf("%v, %v, %+v", err, err3, p.listeners)
	}
	if got := backlogOf(t, p.listeners[0]); got != 5 && got != 0 {
		t.Errorf("%d clients may wait", got)
	}
	// What the unit says of the path stays.
	if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != 0o640 || !strings.Contains(log.String(), "SocketMode=") {
		t.Errorf("%v, %v, log:\n%s", st, err, log)
	}
	for i, want := range []string{"web", "web", path + "-mine", "third"} {
		if got := p.papers(p.now()).Listen[i].Name; got != want {
			t.Errorf("listener %d is called %s, want %s", i, got, want)
		}
	}
	// An upgrade keeps all of them; the manager hands over no more.
	next, _ := listeningParent(t)
	next.handed = &handover{}
	for _, l := range p.listeners {
		next.handed.Listeners = append(next.handed.Listeners, l.handed())
	}
	p.listeners = nil
	if _, err := next.ListenOn("fd:web"); err != nil || len(next.listeners) != 2 || !next.listeners[0].lent || len(next.handed.Listeners) != 2 {
		t.Errorf("%v, %+v", err, next.listeners)
	}
	if _, err := next.ListenOn("fd:more"); err == nil || !strings.Contains(err.Error(), "stopped and started") {
		t.Errorf("of one that is new: %v", err)
	}
	for _, l := range next.listeners {
		l.close()
	}
	next.listeners = nil
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the manager's path has gone: %v", err)
	}
	for _, h := range next.handed.Listeners {
		h.close()
	}
}
