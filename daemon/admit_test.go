package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/rules"
	"github.com/brooddaemon/brood/scoreboard"
)

func TestAccessRulesErrors(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Allow = []string{"10.0.0.0/8", "010.0.0.1"} }, `field Allow: rule "010.0.0.1": `},
		{func(c *Config) { c.Deny = []string{"uid:no-such-user"} }, `field Deny: rule "uid:no-such-user": `},
	} {
		cfg := enough()
		c.change(&cfg)
		if err := cfg.complete(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error that says %q", err, c.want)
		}
	}
	cfg := enough()
	cfg.Allow, cfg.Deny = []string{"all"}, []string{"10.0.0.0/8"}
	if err := cfg.complete(); err != nil {
		t.Error(err)
	}
}

// Who is at the other end of a Unix socket: the user and all groups that he was in when he connected.
func TestClientOfUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rc, err := l.(*net.UnixListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var acc accepted
	rc.Control(func(fd uintptr) { acc.fd, acc.peer, err = acceptNow(int(fd)) })
	if err != nil {
		t.Fatal(err)
	}
	acc.from = &childListener{}
	who := acc.client()
	if who.Unix == nil || !who.Unix.Known || who.Unix.UID != uint32(os.Geteuid()) {
		t.Fatalf("it is %+v", who.Unix)
	}
	more, err := unix.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, gid := range append(more, os.Getegid()) {
		if !slices.Contains(who.Unix.Groups, uint32(gid)) {
			t.Errorf("group %d is not in %v", gid, who.Unix.Groups)
		}
	}
	acc.refuse()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("he who is refused reads %d bytes, %v", n, err)
	}
	if who := acc.client(); who.Unix == nil || who.Unix.Known {
		t.Errorf("of a closed one: %+v", who.Unix)
	}
}

// A process with more groups than there is room for at first.
func TestPeerGroupsMany(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can have any groups")
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	before, err := syscall.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	var many []int
	for i := range 1000 {
		many = append(many, 5000+i)
	}
	if err := syscall.Setgroups(many); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if serr := syscall.Setgroups(before); serr != nil || err != nil {
		t.Fatal(serr, err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if groups, err := peerGroups(pair[0]); err != nil || len(groups) != 1000 || groups[999] != 5999 {
		t.Errorf("%d groups, %v", len(groups), err)
	}
	if groups, err := peerGroups(fds[0]); err != nil || len(groups) != len(before) {
		t.Errorf("%v, %v: want %v, those of the one who made it", groups, err, before)
	}
}

// A child tells of one refusal a second at most, and how many it has not told of; and it never waits for its parent.
func TestRefusalsAreTold(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	parent := os.NewFile(uintptr(fds[1]), "parent")
	defer parent.Close()
	c := &Child{control: os.NewFile(uintptr(fds[0]), "control")}
	defer c.control.Close()
	heard := func() control.Message {
		t.Helper()
		buf := make([]byte, control.MaxMessage+1)
		n, err := parent.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		m, err := control.Parse(buf[:n])
		if err != nil || m.Kind != control.Refused {
			t.Fatalf("%+v, %v", m, err)
		}
		return m
	}
	told := func() bool {
		c.refused.mu.Lock()
		defer c.refused.mu.Unlock()
		return !c.refused.telling
	}
	for range 100 {
		c.tellRefused("10.0.0.1", "deny 10.0.0.0/8")
	}
	if m := heard(); m.Text != "10.0.0.1\x00deny 10.0.0.0/8" || m.Serial != 0 {
		t.Errorf("%+v", m)
	}
	eventually(t, "its word to be out", told)
	c.refused.at = c.refused.at.Add(-tellRefusedEvery)
	c.tellRefused("10.0.0.2", "deny all")
	if m := heard(); m.Serial != 99 || m.Text != "10.0.0.2\x00deny all" {
		t.Errorf("%+v, want 99 that were not told of", m)
	}
	// The parent does not read, and there is room for no more.
	eventually(t, "its word to be out", told)
	raw, err := c.control.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for unix.Send(int(fd), []byte{0}, unix.MSG_DONTWAIT) == nil {
		}
	})
	for range 3 {
		c.refused.at = c.refused.at.Add(-tellRefusedEvery)
		c.tellRefused("10.0.0.3", "deny all")
	}
	if told() {
		t.Error("a word has found room that was not there")
	}
}

// However many refusals children tell of, the log has a few lines, which count the others.
func TestRefusedLines(t *testing.T) {
	var log bytes.Buffer
	p := &Parent{plainLog: slog.New(slog.NewTextHandler(&log, nil)), refused: refusedLines{ration: ration{most: refusedAtOnce, rate: refusedRate}}}
	proc := &process{who: who{slot: 3}, pid: 7, generation: 2}
	for i := range 1000 {
		p.logRefused(proc, control.Message{Kind: control.Refused, Serial: 4, Text: fmt.Sprintf("10.0.0.%d\x00deny 10.0.0.0/8", i%250)})
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != refusedAtOnce {
		t.Errorf("%d lines, want %d", len(lines), refusedAtOnce)
	}
	if want := `msg="client refused" slot=3 pid=7 generation=2 addr=10.0.0.0 rule="deny 10.0.0.0/8" untold=4`; !strings.HasSuffix(lines[0], want) {
		t.Errorf("got %s, want %s", lines[0], want)
	}
	log.Reset()
	p.refused.ration.have = 1
	p.logRefused(proc, control.Message{Kind: control.Refused, Text: "evil\n\x1b\x00"})
	if want := fmt.Sprint("untold=", 990*5); !strings.Contains(log.String(), want) || strings.Contains(log.String(), "\x1b") || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("got %q, want it to say %s", log.String(), want)
	}
}

// childOnBoard is a child with a slot of a board, and no more than that needs.
func childOnBoard(t *testing.T) (*Child, *scoreboard.Board) {
	t.Helper()
	board, err := scoreboard.Create(filepath.Join(t.TempDir(), "board"), scoreboard.Identity{Name: "d", PID: os.Getpid()}, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { board.Remove() })
	slot, err := scoreboard.Attach(board.FD(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slot.Detach() })
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(bell) })
	slot.SetState(scoreboard.Idle, time.Now())
	c := &Child{board: slot, bell: bell, control: os.NewFile(^uintptr(0), "none")}
	c.idle = sync.NewCond(&c.mu)
	return c, board
}

// Names of hosts are looked for when rules want them, and not when they have decided already; who is looked for keeps the child
// from being idle.
func TestAdmitsByName(t *testing.T) {
	c, board := childOnBoard(t)
	if err := board.SetAttention(scoreboard.Attention{Busy: true}); err != nil {
		t.Fatal(err)
	}
	stateOf := func() scoreboard.State {
		h, err := board.Look(0)
		if err != nil {
			t.Fatal(err)
		}
		return h.State
	}
	r := &slowResolver{gate: make(chan struct{})}
	c.hosts = patient(r)
	cfg := enough()
	cfg.Allow, cfg.Deny = []string{".example.org"}, []string{"10.9.0.0/16", "h10.0.0.2.example.org"}
	var err error
	if c.rules, err = cfg.accessRules(); err != nil {
		t.Fatal(err)
	}
	peer := func(a string) rules.Peer { return rules.Peer{Addr: netip.MustParseAddr(a)} }
	if c.admits(peer("10.9.0.1")) {
		t.Error("who is denied by his address is let in")
	}
	if asked, _, _ := r.count(); asked != 0 {
		t.Error("his name was looked for")
	}
	verdict := make(chan bool)
	go func() { verdict <- c.admits(peer("10.0.0.1")) }()
	eventually(t, "the child to be seen as busy", func() bool { return stateOf() == scoreboard.Reading })
	eventually(t, "the parent to be rung for", func() bool { n, _ := unix.Read(c.bell, make([]byte, 8)); return n == 8 })
	close(r.gate)
	if !<-verdict {
		t.Error("who is allowed by his name is refused")
	}
	if s := stateOf(); s != scoreboard.Idle {
		t.Errorf("afterwards its state is %c", s)
	}
	if c.admits(peer("10.0.0.2")) {
		t.Error("who is denied by his name is let in")
	}
	r.err = os.ErrDeadlineExceeded
	if !c.admits(peer("10.0.0.1")) {
		t.Error("what is known is looked up again")
	}
	if c.admits(peer("10.0.0.3")) {
		t.Error("he may be one who is denied, and is let in")
	}
}
