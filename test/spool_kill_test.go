package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// spoolSecondsVar is for how many seconds TestSpoolLosesNothing kills.
const spoolSecondsVar = "SPOOL_SECONDS"

// A spoolJob is what the test knows of a job that it has handed in.
type spoolJob struct {
	text   string
	fails  int // attempts in which it fails
	result string
	kills  int // children that had it in hand
}

// newSpoolJob makes one up.
func newSpoolJob() *spoolJob {
	switch n := rand.IntN(10); {
	case n < 5:
		return &spoolJob{text: "words\na b c\n", result: "3\n"}
	case n < 8:
		d := strconv.Itoa(5+rand.IntN(60)) + "ms"
		return &spoolJob{text: "sleep " + d + "\n", result: "slept " + d + "\n"}
	case n < 9:
		return &spoolJob{text: "fail 2\n", fails: 2, result: "failed 2 times\n"}
	}
	return &spoolJob{text: "fail 99\n", fails: 99}
}

// A spoolKiller hands in jobs and kills whoever works on them.
type spoolKiller struct {
	*spool
	jobs    map[string]*spoolJob
	unheard int // jobs of which it is not known whether they were handed in
	done    map[string]int
}

// feed hands in jobs, some as a client and some as files.
func (k *spoolKiller) feed(t *testing.T) {
	if waiting, err := k.files("new"); err != nil || len(waiting) > 30 {
		return // an error means that files are moved meanwhile
	}
	for range 8 {
		j := newSpoolJob()
		id := fmt.Sprintf("file-%d", len(k.jobs))
		if rand.IntN(4) == 0 {
			var err error
			if id, err = k.put(j.text, time.Second); err != nil {
				k.unheard++
				continue
			}
		} else {
			temp := filepath.Join(k.dir, "tmp", id)
			err := os.WriteFile(temp, []byte(j.text), 0o640)
			if err := errors.Join(err, os.Rename(temp, filepath.Join(k.dir, "new", id))); err != nil {
				t.Fatal(err)
			}
		}
		k.jobs[id] = j
	}
}

// killChild kills one that works, or waits, or finishes for a dead parent, and notes which job it has in hand. So that this
// is known for sure it is stopped before.
func (k *spoolKiller) killChild(t *testing.T) {
	st, err := k.status()
	if err != nil {
		return // another moment will do
	}
	var children []int
	for _, c := range st.Children {
		if c.State != "starting" { // else the pool waits for longer and longer
			children = append(children, c.PID)
		}
	}
	for _, p := range k.site.processes() {
		if p.ppid != k.pid && strings.Contains(p.name, "[") {
			children = append(children, p.pid)
		}
	}
	if len(children) == 0 {
		return
	}
	pid := children[rand.IntN(len(children))]
	if err := kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := eventually(patience, func() error {
		if p, err := lookAt(pid); err == nil && p.state != 'T' && p.state != 'Z' && p.state != 'X' {
			return fmt.Errorf("%v does not stop", p)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	fds, _ := descriptorsOf(pid) // of nobody, if it has ended by itself
	for _, path := range fds {
		name, ok := strings.CutPrefix(path, filepath.Join(k.dir, "cur")+"/")
		if m := spoolName.FindStringSubmatch(name); ok && m != nil && k.jobs[m[1]] != nil {
			k.jobs[m[1]].kills++
		}
	}
	if err := kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	k.done["child killed"]++
}

// restart ends the parent with a signal and starts another one.
func (k *spoolKiller) restart(t *testing.T, what string, sig syscall.Signal) {
	if err := kill(k.pid, sig); err != nil {
		t.Fatal(err)
	}
	if err := eventually(2*patience, func() error {
		if !k.gone() {
			return fmt.Errorf("process %d does not end: %s", k.pid, what)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	k.start(t)
	k.done[what]++
}

// ask tells the parent something and does not wait for it.
func (k *spoolKiller) ask(t *testing.T, what string, sig syscall.Signal) {
	if err := kill(k.pid, sig); err != nil {
		t.Fatal(err)
	}
	k.done[what]++
}

// Children and parents of a spool are killed at random moments, it is reloaded, upgraded, drained and stopped, and in the end
// every job is in done or in failed, once. None has been begun again but those whose child was killed.
func TestSpoolLosesNothing(t *testing.T) {
	t.Parallel()
	seconds := scaled(5, 10)
	if n, err := strconv.Atoi(os.Getenv(spoolSecondsVar)); err == nil {
		seconds = n
	}
	k := &spoolKiller{spool: openSpool(t), jobs: map[string]*spoolJob{}, done: map[string]int{}}
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); {
		k.feed(t)
		switch n := rand.IntN(100); {
		case n < 3:
			k.restart(t, "parent killed", syscall.SIGKILL)
		case n < 5:
			k.restart(t, "stopped", syscall.SIGTERM)
		case n < 8:
			k.ask(t, "reloaded", syscall.SIGHUP)
		case n < 10:
			k.ask(t, "upgraded", syscall.SIGUSR2)
		case n < 12:
			k.ask(t, "drained", syscall.SIGWINCH)
			k.ask(t, "reloaded", syscall.SIGHUP) // or nobody comes back
		case n < 70:
			k.killChild(t)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(40 * time.Millisecond)))) // the moments that are tried, not a wait
	}
	k.restart(t, "stopped", syscall.SIGTERM) // were it drained, or tired of children that are killed
	if err := eventually(2*patience, func() error {
		for _, dir := range []string{"new", "cur"} {
			if left, err := k.files(dir); err != nil || len(left) > 0 {
				return fmt.Errorf("%d jobs are in %s: %v, %v", len(left), dir, left, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := k.interrupt(); err != nil {
		t.Fatal(err)
	}
	k.check(t)
}

// check looks at every job when all has come to rest.
func (k *spoolKiller) check(t *testing.T) {
	done, err := k.files("done")
	failed, ferr := k.files("failed")
	if err := errors.Join(err, ferr); err != nil {
		t.Fatal(err)
	}
	again, most := 0, 0
	for id, j := range k.jobs {
		tries, isDone := done[id]
		lost, isFailed := failed[id]
		switch {
		case isDone == isFailed:
			t.Errorf("job %s: done %v, failed %v; want one of them", id, isDone, isFailed)
		case isDone:
			if b, err := os.ReadFile(filepath.Join(k.dir, "done", id+".result")); err != nil || string(b) != j.result {
				t.Errorf("job %s, %q: result %q, %v", id, j.text, b, err)
			}
			if tries <= j.fails || tries > j.fails+1+j.kills {
				t.Errorf("job %s, %q: done after %d attempts and %d kills", id, j.text, tries, j.kills)
			}
		case isFailed:
			b, err := os.ReadFile(filepath.Join(k.dir, "failed", id+".error"))
			if err != nil || !strings.HasPrefix(string(b), fmt.Sprintf("attempt %d: ", spoolAttempts)) {
				t.Errorf("job %s, %q: error %q, %v", id, j.text, b, err)
			}
			if lost != spoolAttempts || j.fails+j.kills < spoolAttempts {
				t.Errorf("job %s, %q: given up after %d attempts and %d kills: %s", id, j.text, lost, j.kills, b)
			}
		}
		if n := tries - 1 - j.fails; n > 0 {
			again++
			most = max(most, n)
		}
	}
	if strangers := len(done) + len(failed) - len(k.jobs); strangers < 0 || strangers > k.unheard {
		t.Errorf("%d jobs have ended, %d were handed in and %d perhaps", len(done)+len(failed), len(k.jobs), k.unheard)
	}
	t.Logf("%d jobs, %d done, %d begun again (at most %d times); %v", len(k.jobs), len(done), again, most, k.done)
}
