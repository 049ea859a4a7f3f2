package daemon_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/daemon"
)

// blind is lines with children that cannot look at their connections.
var blind = scenario("blind", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.ChildInit = daemon.Blind
	return cfg
})

// hidden is lines with children that nobody else may look into.
var hidden = scenario("hidden", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.ChildInit = func(*daemon.Child) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
	return cfg
})

// A child that cannot look at its connections has the parent look for it, and says so once.
func TestBlindChild(t *testing.T) {
	t.Parallel()
	s := start(t, blind, "BROOD_PREFORK=1", listen("tcp4"))
	for i, id := range []string{"one", "two", "three"} {
		conn := s.dial("tcp4")
		pid, _ := askWho(t, conn, "hold "+id)
		conn.Close()
		if got := s.lost(i + 1)[i]; got.PID != pid || got.Job != uint64(i+1) {
			t.Errorf("told %+v", got)
		}
		if e := s.event("end", id); e.Text != "client gone" {
			t.Errorf("the job ends: %s", e.Text)
		}
	}
	if n := strings.Count(s.log(), "cannot watch connections; the parent's look at the kernel's tables remains: epoll_ctl"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// A parent that may not look into its children relies on their own eyes, and says so once.
func TestHiddenChild(t *testing.T) {
	needRoot(t)
	t.Parallel()
	nobody := lookUp(t, "nobody")
	s := launchAs(t, hidden, func(s *site) {
		// Where the test binary lies only root may go.
		program, err := os.ReadFile(s.cmd.Path)
		if err == nil {
			s.cmd.Path = s.path("program")
			err = errors.Join(os.WriteFile(s.cmd.Path, program, 0o755), os.Chmod(s.cmd.Path, 0o755), os.Chmod(s.dir, 0o777))
		}
		if err != nil {
			t.Fatal(err)
		}
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: idOf(t, nobody.uid), Gid: idOf(t, nobody.gid)}}
	}, "BROOD_PREFORK=1", listen("tcp4")).served()
	says := func() int {
		return strings.Count(s.log(), "cannot look at the connections of children; their own eyes remain")
	}
	for i, id := range []string{"one", "two"} {
		conn := s.dial("tcp4")
		askWho(t, conn, "hold "+id)
		// For several looks.
		eventually(t, "a look", func() bool { return says() > 0 })
		s.remains("one line in the log", func() bool { return says() == 1 })
		conn.Close()
		s.lost(i + 1)
		s.event("end", id)
	}
}

func idOf(t *testing.T, s string) uint32 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}
