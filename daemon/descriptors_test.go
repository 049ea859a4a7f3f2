package daemon_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
)

// greedy is a daemon whose jobs can open files until there are no more to be had, and keep them.
var greedy = scenario("greedy", func() daemon.Config {
	var kept []*os.File
	fill := func() {
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				return
			}
			kept = append(kept, f)
		}
	}
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		for conn := range c.Conns(ctx) {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if line == "fill\n" {
				fill()
			}
			conn.Finish()
			fmt.Fprintln(conn, os.Getpid(), len(kept))
			conn.Close()
			if len(kept) > 0 {
				fill() // what the connection had
			}
		}
		return nil
	})
})

// B54: a child that has no descriptor left for a connection does not take it away from those who have, nor spin over it,
// and says so.
func TestChildWithoutDescriptors(t *testing.T) {
	t.Parallel()
	s := start(t, greedy, "BROOD_RLIMITS=nofile=64", "BROOD_PREFORK=2", listen("tcp4"))
	full, _ := askWho(t, s.dial("tcp4"), "fill")
	s.idle(full, 1)
	before, begun, served := processorTime(t, full), time.Now(), 0
	for range 20 {
		conn := s.dial("tcp4")
		if pid, _ := askWho(t, conn, "who"); pid == full {
			served++
		}
		conn.Close()
	}
	eventually(t, "a complaint", func() bool { return strings.Contains(s.log(), "cannot accept for now") })
	took, used := time.Since(begun), processorTime(t, full)-before
	t.Logf("20 connections in %v, %d of them by the full child, which used %v", took, served, used)
	if used > took/4+50*time.Millisecond {
		t.Errorf("it spins: %v of processor time in %v", used, took)
	}
	if b := s.board(); b.Born != 2 || b.Died != 0 {
		t.Errorf("the scoreboard: %+v", b.Status)
	}
}

// processorTime is what a process has used so far.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		t.Skip("the kernel does not tell: ", err)
	}
	ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ns)
}
