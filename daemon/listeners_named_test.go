package daemon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// A seenFrom is what a child knows of a connection.
type seenFrom struct {
	PID      int
	Listener string
	Info     daemon.TCPInfo
	Err      string
	Closed   string // what TCPInfo says of a connection that is closed
}

// named is a daemon that listens where the site's file says, and in AfterInit on one more. It tells each client what it knows of his
// connection.
var named = scenario("named", func() daemon.Config {
	cfg := everywhere(func(ctx context.Context, c *daemon.Child) error {
		ls, err := c.Listeners()
		if err != nil {
			return err
		}
		var names []string
		for _, l := range ls {
			names = append(names, l.Name())
		}
		note(event{What: "names", Text: strings.Join(names, " ")})
		closed := ""
		for conn := range c.Conns(ctx) {
			io.ReadFull(conn, make([]byte, 2))
			info, err := conn.TCPInfo()
			seen := seenFrom{PID: os.Getpid(), Listener: conn.Listener(), Info: info, Closed: closed}
			if err != nil {
				seen.Err = err.Error()
			}
			b, _ := json.Marshal(seen)
			conn.Write(b)
			conn.Close()
			if _, err = conn.TCPInfo(); err != nil {
				closed = err.Error()
			}
		}
		return nil
	})
	b, err := os.ReadFile(sitePath("listen"))
	if err != nil {
		panic(err)
	}
	cfg.Listen = strings.Fields(string(b))
	cfg.AfterInit = func(p *daemon.Parent) error {
		addrs, err := p.ListenOn("127.0.0.1:0,unix:hook,name=hook")
		if err == nil && len(addrs) != 2 {
			err = fmt.Errorf("it listens on %v", addrs)
		}
		return err
	}
	return cfg
})

// seen connects and returns what the child knows, and both ends as they are here.
func (s *site) seen(addr string) (seen seenFrom, local, foreign netip.AddrPort) {
	s.t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	conn.Write([]byte("ab"))
	if err := json.NewDecoder(conn).Decode(&seen); err != nil {
		s.t.Fatal(err)
	}
	if network == "tcp" {
		local, foreign = conn.LocalAddr().(*net.TCPAddr).AddrPort(), conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	}
	return seen, local, foreign
}

// Every listener has a name, which children know, and options, which an upgrade changes while the sockets stay.
func TestListenersNamed(t *testing.T) {
	t.Parallel()
	if !hasIPv6() {
		t.Skip("no IPv6")
	}
	unit := socketUnit(t)
	listen := func(s *site, entries ...string) {
		t.Helper()
		if err := os.WriteFile(s.path("listen"), []byte(strings.Join(entries, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := launchAs(t, named, func(s *site) {
		hand(s, []stored{{"unit", fileOf(t, unit)}})
		listen(s, "127.0.0.1:0,[::1]:0,name=web,backlog=7", s.path("api")+",mode=0606", "fd:unit", ":0")
	}, "BROOD_PREFORK=1").served()
	shown := strings.Fields(s.board().Listen)
	if len(shown) != 7 || !strings.HasPrefix(shown[0], "web=127.0.0.1:") || !strings.HasPrefix(shown[1], "web=[::1]:") || shown[2] != s.path("api") ||
		shown[3] != unit.Addr().String() || !strings.HasPrefix(shown[4], "[::]:") || !strings.HasPrefix(shown[5], "hook=127") || shown[6] != "hook="+s.path("hook") {
		t.Errorf("the scoreboard shows %q", shown)
	}
	addrs := s.board().Addresses()
	if log := s.log(); !strings.Contains(log, "addr="+addrs[0]+" name=web") {
		t.Errorf("the log says nothing of web:\n%s", log)
	}
	if e := s.event("names", ""); e.Text != "web web "+s.path("api")+" unit :0 hook hook" {
		t.Errorf("the listeners are called %q", e.Text)
	}
	dual := netip.MustParseAddrPort(addrs[4]).Port()
	all := map[string]string{
		addrs[0]: "web", addrs[1]: "web", addrs[2]: s.path("api"), addrs[3]: "unit", addrs[5]: "hook", addrs[6]: "hook",
		fmt.Sprintf("127.0.0.1:%d", dual): ":0", fmt.Sprintf("[::1]:%d", dual): ":0",
	}
	check := func() (pid int) {
		for addr, name := range all {
			seen, local, foreign := s.seen(addr)
			pid = seen.PID
			if seen.Listener != name {
				t.Errorf("the listener at %s is called %q, want %q", addr, seen.Listener, name)
			}
			if strings.HasPrefix(addr, "/") {
				if seen.Err == "" {
					t.Errorf("%s: TCPInfo is %+v", addr, seen.Info)
				}
				continue
			}
			i := seen.Info
			if seen.Err != "" || i.Local != foreign || i.Foreign != local || i.Proxy.IsValid() || i.State != "established" || i.RTT <= 0 ||
				i.RTT > patience || i.Window <= 0 || i.MSS <= 0 || i.Received != 2 || i.Lost != 0 || i.Unanswered != 0 || i.LastHeard > patience {
				t.Errorf("%s, between %v and %v: TCPInfo is %+v, %s", addr, foreign, local, i, seen.Err)
			}
		}
		s.seen(addrs[0])
		if seen, _, _ := s.seen(addrs[0]); !strings.Contains(seen.Closed, "use of closed") {
			t.Errorf("TCPInfo of a connection that is closed: %q", seen.Closed)
		}
		return pid
	}
	check()

	// The first child is of the generation before the upgrade, the one after it, too, with the listeners of now.
	listen(s, "127.0.0.1:0", "127.0.0.1:0,[::1]:0,name=web2", s.path("api")+",name=api,mode=0660", "fd:unit,name=mine", ":0")
	s.signal(syscall.SIGUSR2, s.cmd.Process.Pid)
	s.await("the upgrade", func(b *scoreboard.Snapshot) bool { return strings.Contains(b.Reload, "upgrade") })
	old := s.serving()[0].PID
	s.signal(syscall.SIGKILL, old)
	s.await("another child", func(b *scoreboard.Snapshot) bool {
		return len(b.Children) == 1 && b.Children[0].PID != old && b.Children[0].State == scoreboard.Idle
	})
	now := s.board()
	after := now.Addresses()
	// The first entry has taken the socket of the first that had asked for the same address.
	if len(after) != 8 || !now.ReloadOK || now.Generation != 1 || after[0] != addrs[0] || after[2] != addrs[1] || after[3] != addrs[2] || after[4] != addrs[3] ||
		after[5] != addrs[4] || after[7] != addrs[6] {
		t.Fatalf("after the upgrade %q, before it %q, %s\n%s", after, addrs, now.Reload, s.log())
	}
	if st, err := os.Stat(s.path("api")); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", st, err)
	}
	all[addrs[0]], all[after[1]], all[addrs[1]], all[addrs[2]], all[addrs[3]] = "127.0.0.1:0", "web2", "web2", "api", "mine"
	if pid := check(); pid == old {
		t.Error("the old child answers")
	}
	s.stop(syscall.SIGTERM)
	for _, path := range []string{"api", "hook"} {
		if _, err := os.Lstat(s.path(path)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// A start that cannot have what its configuration says tells what and why, and leaves nothing behind.
func TestListenersWrong(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{
		"fd:web":                      "listen on fd:web: the service manager has handed over no such descriptor: it has handed over none",
		"127.0.0.1:0,nane=x":          `listen "127.0.0.1:0,nane=x": item "nane=x": no such option: is name=VALUE meant?`,
		"127.0.0.1:no-such-service":   "/etc/services",
		"unix:x,owner=no-such-user-x": "want the name or the number of a user",
		"host.invalid:80":             "host.invalid",
	} {
		s := launchAs(t, named, func(s *site) {
			if err := os.WriteFile(s.path("listen"), []byte(entry), 0o600); err != nil {
				t.Fatal(err)
			}
		})
		if !s.over(patience) || s.cmd.ProcessState.Success() || !strings.Contains(s.log(), want) {
			t.Errorf("%s: %v, want %q in the log:\n%s", entry, s.cmd.ProcessState, want, s.log())
		}
	}
}
