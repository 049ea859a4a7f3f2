package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// gated is a daemon whose children become ready, one by one, when the test lets them, or not at all.
var gated = scenario("gated", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.ChildInit = func(c *daemon.Child) error {
		awaitGate(context.Background(), fmt.Sprintf("slot-%d", c.Slot()))
		if _, err := os.Stat(sitePath("broken")); err == nil {
			return errors.New("this build\nSTOPPING=1\nis broken")
		}
		return nil
	}
	return cfg
})

// letIn lets children become ready at once.
func (s *site) letIn() {
	for slot := range 40 {
		s.open(fmt.Sprintf("slot-%d", slot))
	}
}

// breakIt makes whatever is started from now on fail.
func (s *site) breakIt() {
	s.t.Helper()
	if err := os.WriteFile(s.path("broken"), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// The manager hears that the daemon is up when its last child is ready, and not before.
func TestServiceReady(t *testing.T) {
	t.Parallel()
	m := manage(t).listen()
	s := launch(t, gated, "BROOD_PREFORK=3", "NOTIFY_SOCKET="+m.socket)
	serving := func(n int) {
		t.Helper()
		s.await(fmt.Sprint(n, " to serve"), func(b *scoreboard.Snapshot) bool {
			k := 0
			for _, c := range b.Children {
				if c.State == scoreboard.Idle {
					k++
				}
			}
			return k == n
		})
	}
	for n := range 3 {
		serving(n)
		m.status(fmt.Sprintf("starting: %d of 3 children serve, generation 1", n))
		if got := m.order(); got != "" {
			t.Fatalf("with %d of 3 children: %s", n, got)
		}
		s.open(fmt.Sprintf("slot-%d", n))
	}
	m.await("READY=1", 1)
	serving(3)
	m.status("serving: 3 of 3 children serve, generation 1")
	s.stop(syscall.SIGTERM)
	m.await("STOPPING=1", 1)
	m.status("stopping: ")
	m.await("STATUS=stopped", 1)
	if got := m.order(); got != "READY STOPPING" {
		t.Errorf("the manager hears %s", got)
	}
}

// A daemon that cannot start says why; it is never up.
func TestServiceCannotStart(t *testing.T) {
	t.Parallel()
	m := manage(t).listen()
	s := launchAs(t, gated, func(s *site) { s.breakIt(); s.letIn() }, "NOTIFY_SOCKET="+m.socket)
	if !s.over(patience) || s.cmd.ProcessState.Success() {
		t.Errorf("the daemon: %v", s.cmd.ProcessState)
	}
	m.status("is broken")
	if got := m.order(); got != "STOPPING" {
		t.Errorf("the manager hears %s", got)
	}
}

// B29: the manager asks for a reload by SIGHUP and waits for RELOADING, with a time that is not before its signal, and then for
// READY. The process is the same all the time.
func TestServiceReload(t *testing.T) {
	t.Parallel()
	m := manage(t).listen()
	s := start(t, lines, "NOTIFY_SOCKET="+m.socket)
	m.await("READY=1", 1)
	pid := s.cmd.Process.Pid
	for n := 1; n <= 3; n++ {
		asked := clock()
		s.signal(syscall.SIGHUP, pid)
		reloading := m.await("RELOADING=1", n)
		ready := m.await("READY=1", n+1)
		if at := m.began(reloading); at < asked.Microseconds() || at > reloading.at.Microseconds() {
			t.Errorf("asked at %d, told at %d: %q", asked.Microseconds(), reloading.at.Microseconds(), reloading.text)
		}
		if b := s.board(); b.Generation != uint64(n+1) || ready.at < reloading.at {
			t.Errorf("ready with generation %d", b.Generation)
		}
	}
	s.stop(syscall.SIGTERM)
	m.await("STATUS=stopped", 1)
	if got, want := m.order(), "READY"+strings.Repeat(" RELOADING READY", 3)+" STOPPING"; got != want {
		t.Errorf("the manager hears %s, want %s", got, want)
	}
	for _, n := range m.all() {
		if n.pid != pid || strings.Contains(n.text, "MAINPID") {
			t.Errorf("process %d sends %q, want %d", n.pid, n.text, pid)
		}
	}
}

// A SIGHUP that comes while a reload is under way has a reload of its own, which begins after it, even in the very step in
// which the first one fails.
func TestServiceReloadTwice(t *testing.T) {
	for _, broken := range []bool{false, true} {
		t.Run(fmt.Sprint("broken ", broken), func(t *testing.T) {
			t.Parallel()
			m := manage(t).listen()
			s := launch(t, gated, "BROOD_PREFORK=1", "NOTIFY_SOCKET="+m.socket)
			s.open("slot-0")
			m.await("READY=1", 1)
			s.signal(syscall.SIGHUP, s.cmd.Process.Pid)
			m.await("RELOADING=1", 1)
			// The first candidate waits at its gate.
			s.await("the candidate", func(b *scoreboard.Snapshot) bool { return len(b.Children) == 2 })
			asked := clock()
			s.signal(syscall.SIGHUP, s.cmd.Process.Pid)
			s.signal(syscall.SIGTTIN, s.cmd.Process.Pid)
			s.await("the signals to be read", func(b *scoreboard.Snapshot) bool { return b.Want == 2 })
			generation := 3
			if broken {
				s.breakIt()
				generation = 1
			}
			s.letIn()
			second := m.await("RELOADING=1", 2)
			if at := m.began(second); at < asked.Microseconds() {
				t.Errorf("asked at %d: %q", asked.Microseconds(), second.text)
			}
			eventually(t, "the end of the second", func() bool { return strings.HasSuffix(m.order(), "RELOADING READY") })
			if b := s.board(); b.Generation != uint64(generation) {
				t.Errorf("ready with generation %d", b.Generation)
			}
		})
	}
}

// A reload to code that does not start ends, too: a manager that waits for READY must not wait for ever.
func TestServiceReloadFails(t *testing.T) { // B29
	t.Parallel()
	m := manage(t).listen()
	s := launch(t, gated, "NOTIFY_SOCKET="+m.socket)
	s.letIn()
	m.await("READY=1", 1)
	s.breakIt()
	s.signal(syscall.SIGHUP, s.cmd.Process.Pid)
	m.await("RELOADING=1", 1)
	m.await("READY=1", 2)
	m.status("the last reload failed: signal SIGHUP: child ChildInit")
	os.Remove(s.path("broken"))
	s.signal(syscall.SIGHUP, s.cmd.Process.Pid)
	m.await("READY=1", 3)
	m.status("serving: 2 of 2 children serve, generation 3")
	// What a child says is no word of the parent's.
	if got := m.order(); got != "READY RELOADING READY RELOADING READY" {
		t.Errorf("the manager hears %s", got)
	}
}

// A manager that has no room for a message gets it later; meanwhile the daemon goes on.
func TestServiceBehind(t *testing.T) {
	t.Parallel()
	m := manage(t)
	filler, err := net.Dial("unixgram", m.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	fill := func() {
		filler.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		for err = nil; err == nil; {
			_, err = filler.Write([]byte("FILLER=1"))
		}
	}
	s := launch(t, gated, "NOTIFY_SOCKET="+m.socket)
	s.await("children", func(b *scoreboard.Snapshot) bool { return len(b.Children) == 2 })
	fill() // it has its listeners in the store
	s.letIn()
	s.served()
	if b := s.reload(); b.Generation != 2 {
		t.Fatalf("generation %d", b.Generation)
	}
	s.serving()
	eventually(t, "the old children to leave", func() bool { return len(s.processes()) == 3 })
	m.listen()
	m.await("READY=1", 1)
	// The news that the daemon is up was overtaken by the reload; that one is told in full.
	if got := m.order(); got != "RELOADING READY" {
		t.Errorf("the manager hears %s", got)
	}
	m.status("serving: 2 of 2 children serve, generation 2")
}

// hanging is a daemon whose parent's loop hangs, in the logger, as long as there is a file.
var hanging = scenario("hanging", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.Logger = slog.New(slog.NewTextHandler(hangingWriter{}, nil))
	return cfg
})

type hangingWriter struct{}

func (hangingWriter) Write(line []byte) (int, error) {
	for told := false; ; told = true {
		if _, err := os.Stat(sitePath("hang")); err != nil {
			return os.Stderr.Write(line)
		}
		if !told {
			note(event{What: "hangs"})
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Signs of life come in time, and none from a parent that is stopped or whose loop hangs.
func TestServiceWatchdog(t *testing.T) {
	t.Parallel()
	const interval = 400 * time.Millisecond
	m := manage(t).listen()
	s := start(t, hanging, "NOTIFY_SOCKET="+m.socket, fmt.Sprintf("WATCHDOG_USEC=%d", interval.Microseconds()))
	m.await("WATCHDOG=1", 10)
	beats := m.notices("WATCHDOG=1")
	if d := beats[9].at - beats[0].at; d < interval { // more than four times that, but who knows how late the first was heard
		t.Errorf("ten signs of life in %v", d)
	}
	pid := s.cmd.Process.Pid
	silence := func(what string) {
		t.Helper()
		m.caughtUp()
		before := len(m.notices("WATCHDOG=1"))
		time.Sleep(3 * interval)
		m.caughtUp()
		if after := len(m.notices("WATCHDOG=1")); after != before {
			t.Errorf("%d signs of life from a parent that %s", after-before, what)
		}
	}
	s.signal(syscall.SIGSTOP, pid)
	eventually(t, "the parent to stop", func() bool {
		p, err := lookAt(pid)
		return err == nil && p.state == 'T'
	})
	silence("is stopped")
	n := len(m.notices("WATCHDOG=1"))
	s.signal(syscall.SIGCONT, pid)
	m.await("WATCHDOG=1", n+2)

	if err := os.WriteFile(s.path("hang"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGTTIN, pid) // a line for the log
	eventually(t, "the parent to hang", func() bool {
		return slices.ContainsFunc(s.eventsOf("hangs", ""), func(e event) bool { return e.PID == pid })
	})
	silence("hangs")
	n = len(m.notices("WATCHDOG=1"))
	os.Remove(s.path("hang"))
	m.await("WATCHDOG=1", n+2)
}

// Nobody who does not want it gets a sign of life.
func TestServiceNoWatchdog(t *testing.T) {
	t.Parallel()
	for _, env := range []string{"WATCHDOG_PID=1", "WATCHDOG_USEC=nonsense"} {
		m := manage(t).listen()
		s := start(t, lines, "NOTIFY_SOCKET="+m.socket, "WATCHDOG_USEC=1000", env)
		s.stop(syscall.SIGTERM)
		m.await("STATUS=stopped", 1)
		if n := len(m.notices("WATCHDOG=1")); n > 0 {
			t.Errorf("%s: %d signs of life", env, n)
		}
	}
}
