package test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// B8: a hundred children that are killed at the same moment leave no zombie, and their places are filled.
func TestHundredChildrenKilledAtOnce(t *testing.T) {
	t.Parallel()
	n := 100
	if raceEnabled { // they take several times as long to start
		n = 30
	}
	d := mustServe(t, openSite(t), "broken", "-prefork", strconv.Itoa(n))
	all := []string{fmt.Sprint("children=", n), fmt.Sprint("idle=", n)}
	st, err := d.await(append(all, fmt.Sprint("born=", n))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range st.Children {
		if err := kill(c.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	_, err = d.await(append(all, fmt.Sprint("died=", n), fmt.Sprint("born=", 2*n), "killed=0", "state=serving")...)
	if err != nil {
		t.Fatal(err)
	}
	children := childrenOf(d.pid)
	if len(children) != n {
		t.Errorf("the parent has %d processes, want %d", len(children), n)
	}
	for _, p := range children {
		if p.state == 'Z' {
			t.Errorf("%v is a zombie", p)
		}
	}
	if body, err := get(d.addr + "/"); err != nil {
		t.Errorf("after that: %q, %v", body, err)
	}
}

// How long it takes until the replacement of a killed child is ready is logged by the parent. It is shown here, and
// judged only by the deadline of waiting.
func TestKilledChildIsReplacedSoon(t *testing.T) {
	t.Parallel()
	d := mustServe(t, openSite(t), "jobs")
	const tries = 20
	for i := range tries {
		pid, err := d.pick("state=idle")
		if err != nil {
			t.Fatal(err)
		}
		if err := kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _, err := d.await("idle=3", fmt.Sprintf("died=%d", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.ReadFile(d.log)
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	var died time.Time
	line := regexp.MustCompile(`(?m)^time=(\S+) .*msg="child (died|ready)"`)
	for _, m := range line.FindAllSubmatch(log, -1) {
		at, err := time.Parse(time.RFC3339Nano, string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case bytes.Equal(m[2], []byte("died")):
			died = at
		case !died.IsZero():
			took = append(took, at.Sub(died))
		}
	}
	if len(took) != tries {
		t.Fatalf("the log shows %d replacements, want %d", len(took), tries)
	}
	slices.Sort(took)
	t.Logf("from death to ready: median %v, slowest %v", took[tries/2], took[tries-1])
}

// B9: a child that is told to end in the first 50 ms of its life, whatever it is just doing, ends. The children are the
// candidates of reloads, which makes each death visible in the answer of the reload.
func TestTermRightAfterSpawn(t *testing.T) {
	t.Parallel()
	tries := 300
	if raceEnabled {
		tries = 60
	}
	s := openSite(t)
	program := filepath.Join(s.dir, "prog")
	if err := (variant{"broken", "A", ""}).install(program); err != nil {
		t.Fatal(err)
	}
	d := mustServe(t, s, program, "-prefork", "1")
	// The signal meets every candidate at its start, because those of this build do not come to an end of that.
	if err := (variant{"broken", "B", "hang"}).install(program); err != nil {
		t.Fatal(err)
	}
	first, err := d.pick("state=idle")
	if err != nil {
		t.Fatal(err)
	}
	// A reload gives up when three have ended so.
	const each = 3
	for i := range tries {
		if i%each == 0 {
			if err := kill(d.pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		var pid int
		if err := eventually(patience, func() error {
			for _, c := range childPIDs(d.pid) {
				// Not the program on trial, before each reload.
				if env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", c)); c != first && bytes.Contains(env, []byte("\x00BROOD=child:")) {
					pid = c
					return nil
				}
			}
			return errors.New("no candidate has been started")
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(50 * time.Millisecond)))) // the moment that is tried, not a wait
		if err := kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := eventually(patience, func() error {
			if slices.Contains(childPIDs(d.pid), pid) {
				return fmt.Errorf("child %d does not end on SIGTERM", pid)
			}
			n, err := countLines(d.log, `msg="reload failed, .*exited before it was ready: signal: terminated"`)
			if err == nil && n != (i+1)/each {
				err = fmt.Errorf("%d reloads have failed after %d signals", n, i+1)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	// The child that served all that time still does.
	if _, err := d.await("children=1", "idle=1", "generation=1", "died=0", fmt.Sprintf("born=%d", tries+1)); err != nil {
		t.Fatal(err)
	}
	if again, err := d.pick("slot=0"); err != nil || again != first {
		t.Errorf("the child is %d, %v; want %d as in the beginning", again, err, first)
	}
}

// childPIDs asks the kernel for the children of a process. It is quick enough to catch a child right after its birth.
func childPIDs(pid int) []int {
	var pids []int
	dir := fmt.Sprintf("/proc/%d/task", pid)
	tasks, _ := os.ReadDir(dir)
	for _, task := range tasks {
		b, _ := os.ReadFile(dir + "/" + task.Name() + "/children")
		for _, f := range strings.Fields(string(b)) {
			if c, err := strconv.Atoi(f); err == nil {
				pids = append(pids, c)
			}
		}
	}
	return pids
}

// mustServe starts a daemon for a Go test.
func mustServe(t *testing.T, s *site, program string, flags ...string) *server {
	t.Helper()
	d, err := s.serve(nil, program, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
