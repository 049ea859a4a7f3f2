package daemon_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
)

// How the parent of frail ends when it has just begun.
const (
	frailDies  = 9
	frailFails = 1
)

// frail is lines with a parent that cannot begin, if the test says so. A trial does not come so far.
var frail = scenario("frail", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.AfterInit = func(*daemon.Parent) error {
		how, err := os.ReadFile(sitePath("frailty"))
		switch {
		case err != nil:
			return nil
		case how[0] == frailDies:
			os.Exit(frailDies)
		}
		return errors.New("this hook fails")
	}
	return cfg
})

// upgradeTo upgrades the parent to one that ends at once with this exit status.
func (s *site) upgradeTo(status byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path("frailty"), []byte{status}, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.signal(syscall.SIGUSR2, s.cmd.Process.Pid)
	if !s.over(patience) {
		s.t.Fatal("the upgraded parent does not end")
	}
	if got := s.cmd.ProcessState.ExitCode(); got != int(status) {
		s.t.Errorf("the upgraded parent: %v", s.cmd.ProcessState)
	}
}

// mend makes the next start work.
func (s *site) mend() { os.Remove(s.path("frailty")) }

// To a service manager an upgrade is a reload: it is told of the begin and the end of it, by the same process. What it keeps it
// keeps, and its watchdog hears the new program.
func TestServiceUpgrade(t *testing.T) {
	t.Parallel()
	m := manage(t).listen()
	s := start(t, lines, "NOTIFY_SOCKET="+m.socket, "WATCHDOG_USEC=200000")
	m.await("READY=1", 1)
	kept := len(m.store())
	for i := range 3 {
		begun := clock()
		s.signal(syscall.SIGUSR2, s.cmd.Process.Pid)
		ready := m.await("READY=1", i+2)
		if at := time.Duration(m.began(m.await("RELOADING=1", i+1))) * time.Microsecond; at < begun.Truncate(time.Microsecond) || at > ready.at {
			t.Errorf("upgrade %d is said to have begun at %v, not between %v and %v", i+1, at, begun, ready.at)
		}
	}
	if got, want := m.order(), "READY RELOADING READY RELOADING READY RELOADING READY"; got != want {
		t.Errorf("the manager hears %s, want %s", got, want)
	}
	m.status("serving: 2 of 2 children serve, generation 1")
	beats := len(m.notices("WATCHDOG=1"))
	m.await("WATCHDOG=1", beats+2)
	for _, n := range m.all() {
		if n.pid != s.cmd.Process.Pid || strings.Contains(n.text, "MAINPID") {
			t.Errorf("process %d says %q, the daemon is %d", n.pid, n.text, s.cmd.Process.Pid)
		}
	}
	if stored, removed := len(m.notices("FDSTORE=1")), len(m.notices("FDSTOREREMOVE=1")); stored != kept || removed != 0 {
		t.Errorf("%d of %d descriptors have been sent, %d taken back", stored, kept, removed)
	}
	s.stop(syscall.SIGTERM)
	eventually(t, "the store to be emptied", func() bool { return len(m.store()) == 0 })
}
