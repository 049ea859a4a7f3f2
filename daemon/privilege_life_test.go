package daemon_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/scoreboard"
)

func (s *site) dialer() *net.Dialer { return &net.Dialer{Timeout: patience} }

// A child that is somebody else lives and dies like any other: it is replaced when it crashes, by a reload, and when it is
// killed for its client's sake; and those who come after it are the same somebody.
func TestLifeOfSomebodyElse(t *testing.T) {
	needRoot(t)
	needWild(t)
	t.Parallel()
	nobody := lookUp(t, "nobody")
	s := start(t, shells, "BROOD_USER=nobody", "BROOD_KILL_GRACE=50ms")
	check := func(when string) {
		t.Helper()
		for _, c := range s.serving() {
			nobody.check(t, "a child "+when, statusOf(t, c.PID))
		}
	}
	check("of the start")

	crash := s.dial("tcp4")
	say(t, crash, "crash")
	io.ReadAll(crash)
	s.await("a new child", func(b *scoreboard.Snapshot) bool { return b.Died == 1 && len(b.Children) == 2 && b.Born == 3 })
	check("after a crash")

	if b := s.reload(); b.Generation != 2 {
		t.Errorf("generation %d", b.Generation)
	}
	check("after a reload")

	hold := s.dial("tcp4")
	var pid int
	fmt.Sscan(tellOn(t, hold, "hold"), &pid)
	s.tell("sh exec >/dev/null 2>&1; %s", strings.ReplaceAll(strings.ReplaceAll(wild, "\n", "; "), "$1", "1000"))
	hold.Close()
	s.await("a new child", func(b *scoreboard.Snapshot) bool { return s.left(b, pid) && b.Killed == 1 && len(b.Children) == 2 })
	check("after a kill")
	// Root can end what somebody else has left.
	eventually(t, "strays", func() bool { return s.sleepers("1000") > 0 })
	s.stop(syscall.SIGTERM)
	if n := s.sleepers("1000"); n > 0 {
		t.Errorf("%d strays are left", n)
	}
}

// asNobody makes a daemon be started by a user who is not root, in a directory of his own.
func asNobody(s *site) {
	s.t.Helper()
	program := s.path("program")
	b, err := os.ReadFile(s.cmd.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	syscall.ForkLock.RLock() // or a program started just now would keep the file open for writing (golang/go#22315)
	err = os.WriteFile(program, b, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chown(s.dir, 65534, 65534); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = &exec.Cmd{
		Path: program, Args: []string{program}, Dir: s.dir, Env: s.cmd.Env, Stdout: s.cmd.Stdout, Stderr: s.cmd.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}},
	}
}

// Who is not root cannot make somebody else of his children. He is told, and they are who he is.
func TestUserWithoutRoot(t *testing.T) {
	needRoot(t)
	for _, who := range []string{"BROOD_USER=root", "BROOD_USER=54321", "BROOD_GROUP=54321"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := launchAs(t, shells, asNobody, who).served()
			for _, c := range s.serving() {
				if got := statusOf(t, c.PID); got["Uid"] != "65534 65534 65534 65534" || got["Gid"] != "65534 65534 65534 65534" {
					t.Errorf("a child is user %s, group %s", got["Uid"], got["Gid"])
				}
			}
			if log := s.log(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "children go on as user 65534 and group 65534: only root can") {
				t.Error("there should be one warning that says so")
			}
		})
	}
	// Nothing to warn of: he has named himself.
	s := launchAs(t, shells, asNobody, "BROOD_USER=65534").served()
	if log := s.log(); strings.Contains(log, "level=WARN") {
		t.Error("a warning without a reason")
	}
}

// A daemon that cannot make of its children who they should be does not start, and says why.
func TestUserRefused(t *testing.T) {
	for _, c := range []struct {
		env    string
		nobody bool
		want   string
	}{
		{"BROOD_USER=no-such-user", false, `field User is "no-such-user": user: unknown user no-such-user; want the name or the number of a user`},
		{"BROOD_GROUP=no-such-group", false, `field Group is "no-such-group": want the name or the number of a group`},
		{"BROOD_USER=-1", false, `field User is "-1"`},
		{"BROOD_GROUP=-1", false, `field Group is "-1"`},
		{"BROOD_USER=4294967295", false, `field User is "4294967295"`}, // setuid(2) takes it for "leave it alone"
		{"BROOD_GROUP=4294967295", false, `field Group is "4294967295"`},
		{"BROOD_REQUIRE_ROOT=true", true, `must be started by root, not by user 65534`},
	} {
		t.Run(c.env, func(t *testing.T) {
			t.Parallel()
			prepare := func(*site) {}
			if c.nobody {
				needRoot(t)
				prepare = asNobody
			}
			s := launchAs(t, shells, prepare, c.env)
			if !s.over(patience) {
				t.Fatal("it runs")
			}
			if code := s.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit status %d", code)
			}
			if !strings.Contains(s.log(), c.want) {
				t.Errorf("nothing says %q", c.want)
			}
			if entries, _ := os.ReadDir(s.path("run")); len(entries) > 0 {
				t.Errorf("left in the run directory: %v", entries)
			}
		})
	}
}
