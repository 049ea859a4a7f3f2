package daemon_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// B55: no reload costs the parent a descriptor.
func TestReloadsKeepNothingOpen(t *testing.T) {
	t.Parallel()
	reloads := 100
	if raceEnabled {
		reloads = 30
	}
	s := start(t, lines, "BROOD_SOAK=1ms")
	open := func() int {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	settled := func() {
		s.serving()
		b := s.board()
		s.await("the old ones to be gone", func(*scoreboard.Snapshot) bool { return len(childrenOf(b.PID)) == b.Want })
	}
	s.reload() // what is opened at first use is open now
	settled()
	before := open()
	for range reloads {
		s.reload()
	}
	settled()
	eventually(t, fmt.Sprintf("no more than %d descriptors", before), func() bool { return open() <= before })
}

// childrenOf returns the children of a process, also those that have ended and are not reaped.
func childrenOf(parent int) []int {
	var found []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, err := lookAt(pid); err == nil && p.ppid == parent {
				found = append(found, pid)
			}
		}
	}
	return found
}

// B56: a connection wakes one idle child, and not all of them.
func TestNoHerd(t *testing.T) {
	t.Parallel()
	const children, conns = 16, 100
	s := start(t, lines, "BROOD_PREFORK=16", listen("tcp4"))
	pool := s.serving()
	if len(pool) != children {
		t.Fatalf("%d children", len(pool))
	}
	visit := func() {
		conn := s.dial("tcp4")
		askWho(t, conn, "who")
		io.ReadAll(conn)
		conn.Close()
	}
	visit()
	before := map[int]int{}
	for _, c := range pool {
		before[c.PID] = wakings(t, c.PID)
	}
	for range conns {
		visit()
	}
	all := 0
	for _, c := range pool {
		all += wakings(t, c.PID) - before[c.PID]
	}
	t.Logf("%.1f wakings of all threads of %d children for each connection", float64(all)/conns, children)
	// What one child itself takes for a job is a handful. A herd would be one or two for each of them.
	if all > conns*children {
		t.Errorf("%d wakings for %d connections", all, conns)
	}
}

// wakings is how often the threads of a process have gone to sleep by themselves.
func wakings(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	n := 0
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		v, err := strconv.Atoi(fields(string(b))["voluntary_ctxt_switches"])
		if err != nil {
			t.Fatal(err)
		}
		n += v
	}
	return n
}

// doomed is a daemon whose children can start as long as the gate is shut.
var doomed = scenario("doomed", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.ChildInit = func(*daemon.Child) error {
		if _, err := os.Stat(sitePath("gate-doom")); err == nil {
			return errors.New("doomed")
		}
		return nil
	}
	return cfg
})

// B20: a daemon whose children crash in a loop waits for nobody: it tells how it is, obeys, and stops while it would still
// be waiting for the next try.
func TestCrashLoopAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, doomed)
	pool := s.serving()
	s.open("doom")
	for _, c := range pool {
		s.signal(syscall.SIGKILL, c.PID)
	}
	// From here on it is eight seconds, about, until the next try.
	eventually(t, "the sixth failure", func() bool { return strings.Contains(s.log(), "failures=6") })
	const limit = 6 * time.Second
	begun := time.Now()
	s.signal(syscall.SIGTTIN, s.cmd.Process.Pid)
	b := s.await("one child more to be wanted", func(b *scoreboard.Snapshot) bool { return b.Want == 3 })
	if b.State != "degraded" {
		t.Errorf("state %s", b.State)
	}
	s.stop(syscall.SIGTERM)
	if took := time.Since(begun); took > limit {
		t.Errorf("it took %v", took)
	}
}
