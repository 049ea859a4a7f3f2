package daemon_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// wild is a script that does all that a program can do to get away from who has started it: it forks twice, so that its
// parent dies, goes into a session of its own, so that it is in no process group that anybody knows, and ignores signals.
// What it leaves sleeps for $1 seconds.
const wild = `trap '' TERM INT HUP
( ( setsid sh -c 'trap "" TERM INT HUP; sleep "$0" & sleep "$0"; :' "$1" & ) & )`

// trees is a daemon whose jobs start wild programs, which sleep for as long as the client says.
var trees = scenario("trees", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		for conn := range c.Conns(ctx) {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			verb, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
			script := wild
			if verb != "litter" {
				script += `; sleep "$1"; sleep "$1"`
			}
			cmd := exec.Command("sh", "-c", script, "sh", arg)
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			switch verb {
			case "toil": // for ever, and listen to nobody
				cmd.Start()
				fmt.Fprintln(conn, os.Getpid(), c.Slot())
				cmd.Wait()
				select {}
			case "stay": // the same, with as much time as it takes
				daemon.JobOf(conn.Context()).Extend(time.Hour)
				cmd.Start()
				fmt.Fprintln(conn, os.Getpid(), c.Slot())
				cmd.Wait()
				select {}
			case "litter": // come to an end at once, and leave something behind
				cmd.Run()
				fmt.Fprintln(conn, os.Getpid(), c.Slot())
			default:
				fmt.Fprintln(conn, os.Getpid(), c.Slot())
			}
		}
		return nil
	})
})

// treeGrace is the KillGrace of these tests. What is left over should be gone a second after that.
const treeGrace = 500 * time.Millisecond

// needWild skips a test where the script cannot run.
func needWild(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("needs setsid: ", err)
	}
}

// sleepers returns the programs that sleep for so many seconds.
func (s *site) sleepers(seconds string) int {
	n := 0
	for _, p := range s.processes() {
		if p.command == "sleep "+seconds {
			n++
		}
	}
	return n
}

// A treeEnd is a way in which a child comes to its end. It takes the client's connection.
type treeEnd struct {
	name string
	verb string // of the job that has started the tree
	env  []string
	all  bool // the whole daemon ends
	end  func(s *site, pid int, hangUp func())
}

func treeEnds() []treeEnd {
	parent := func(sig unix.Signal) func(*site, int, func()) {
		return func(s *site, _ int, _ func()) { s.signal(sig, s.cmd.Process.Pid) }
	}
	killed := func(s *site, pid int, _ func()) { s.signal(unix.SIGKILL, pid) }
	return []treeEnd{
		{"client leaves", "toil", nil, false, func(_ *site, _ int, hangUp func()) { hangUp() }},
		{"job timeout", "toil", []string{"BROOD_JOB_TIMEOUT=300ms"}, false, func(*site, int, func()) {}},
		{"child killed", "toil", nil, false, killed},
		{"idle child killed", "litter", nil, false, killed},
		{"max requests", "litter", []string{"BROOD_MAX_REQUESTS=1"}, false, func(*site, int, func()) {}},
		{"reload", "litter", nil, false, parent(unix.SIGHUP)},
		{"reload kills", "toil", []string{"BROOD_DRAIN_TIMEOUT=300ms"}, true, func(s *site, pid int, hangUp func()) { s.reload() }},
		{"stop", "litter", nil, true, parent(unix.SIGTERM)},
		{"stop timeout", "toil", []string{"BROOD_STOP_TIMEOUT=300ms"}, true, parent(unix.SIGTERM)},
		{"quick stop", "toil", nil, true, parent(unix.SIGINT)},
		{"parent killed", "litter", []string{"BROOD_DRAIN_TIMEOUT=2s"}, true, parent(unix.SIGKILL)},
		{"parent killed, child busy", "toil", []string{"BROOD_DRAIN_TIMEOUT=300ms"}, true, parent(unix.SIGKILL)},
	}
}

// B16: however a child comes to its end, nothing of what its jobs have started is left; and nothing that another child's
// job has started goes with it.
func TestTreesEnd(t *testing.T) {
	needWild(t)
	for _, c := range treeEnds() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := append([]string{"POLICY=kill", "BROOD_KILL_GRACE=" + treeGrace.String(), "BROOD_PREFORK=2"}, c.env...)
			c.run(t, start(t, trees, env...))
		})
	}
}

func (c treeEnd) run(t *testing.T, s *site) {
	other, _ := askWho(t, s.dial("tcp4"), "stay 2000")
	eventually(t, "the other's tree", func() bool { return s.sleepers("2000") >= 3 })
	conn := s.dial("tcp4")
	pid, _ := askWho(t, conn, c.verb+" 1000")
	if pid == other {
		t.Fatal("two jobs in one child")
	}
	grown := 2
	if c.verb == "toil" {
		grown = 3
	}
	if c.name != "max requests" && c.name != "job timeout" { // there it may have been ended by now
		eventually(t, "the tree", func() bool { return s.sleepers("1000") >= grown })
	}
	begun := time.Now()
	c.end(s, pid, func() { conn.Close() })
	eventually(t, "the end of the tree", func() bool { return s.sleepers("1000") == 0 && gone(pid) })
	t.Logf("gone after %v; KillGrace is %v", time.Since(begun), treeGrace)
	if c.all {
		eventually(t, "the end of the other's tree", func() bool { return s.sleepers("2000") == 0 && gone(other) })
		return
	}
	if n := s.sleepers("2000"); n < 3 || gone(other) {
		t.Errorf("%d of the other's tree are left, its child is gone: %v", n, gone(other))
	}
	if c.name == "reload" {
		return // the other one drains
	}
	s.await("a new child", func(b *scoreboard.Snapshot) bool { return s.left(b, pid) && len(b.Children) == 2 })
	askWho(t, s.dial("tcp4"), "who")
	if log := s.log(); strings.Contains(log, "left behind") {
		t.Errorf("it has not been easy:\n%s", log)
	}
}
