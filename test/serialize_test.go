package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// serializeModes are the ways in which children take turns in accepting.
var serializeModes = []string{"exclusive", "none", "flock", "semaphore", "pipe", "reuseport"}

// B23, B24: in each mode of accepting, on two ports, under reloads, two upgrades and kills of children at random, a
// request is lost only with the child that had it. All children are killed at once when nobody asks: with them the one that has
// the lock, and nothing is lost. In the end every child accepts, and nothing is left behind.
func TestSerialize(t *testing.T) {
	t.Parallel()
	leaveToPlain(t)
	for _, mode := range serializeModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			const children, massacres = 4, 3
			s := openSite(t)
			d, err := s.serve([]string{"BROOD_SOAK=-1ns", "BROOD_AUTO_RELOAD_WHEN=never"}, "jobs", "-serialize", mode, "-prefork", fmt.Sprint(children),
				"-listen", "127.0.0.1:0", "-listen", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			st, err := d.status()
			if err != nil {
				t.Fatal(err)
			}
			ports := strings.Fields(st.Listen)
			if len(ports) != 2 {
				t.Fatalf("it listens on %q", st.Listen)
			}
			killed := uint64(0)
			// A child whose death the parent does not know yet cannot be meant again.
			kill := func(pid int) {
				if err := kill(pid, syscall.SIGKILL); err != nil {
					t.Error(err)
				}
				killed++
			}
			for range massacres {
				for _, c := range st.Children {
					kill(c.PID)
				}
				for _, port := range ports { // while they are dead, and the next ones come
					if body, err := get(port + "/"); err != nil {
						t.Errorf("after the death of all: %q, %v", body, err)
					}
				}
				if st, err = d.await("children=4", "idle=4", fmt.Sprint("died=", killed)); err != nil {
					t.Fatal(err)
				}
			}
			loads := []*load{startLoad(ports[0] + "/"), startLoad(ports[1] + "/")}
			s.undo = append(s.undo, loads[0].end, loads[1].end)
			for i := range scaled(10, 20) {
				victim := st.Children[rand.IntN(len(st.Children))].PID
				var wg sync.WaitGroup
				wg.Go(func() {
					if out, err := s.command("brood", "reload", d.run).CombinedOutput(); err != nil {
						t.Errorf("reload %d: %v: %s", i+1, err, out)
					}
				})
				kill(victim)
				wg.Wait()
				if i%10 == 5 {
					if err := d.upgrade(); err != nil {
						t.Errorf("upgrade: %v", err)
					}
				}
				if st, err = d.await("children=4", "draining=0", "state=serving"); err != nil {
					t.Fatal(err)
				}
			}
			for _, l := range loads {
				l.finish(20)
				if err := l.lostAtMost(killed - massacres*children); err != nil {
					t.Error(err)
				}
			}
			t.Logf("%v; %v", loads[0], loads[1])
			if mode != "reuseport" { // there a client waits for the child that he has been given to
				everybody(t, ports, children)
			}
			key := semaphoreOf(t, d.run, mode)
			if out, err := s.command("brood", "stop", d.run).CombinedOutput(); err != nil {
				t.Errorf("stop: %v: %s", err, out)
			}
			for _, name := range []string{"lock", "semaphore"} {
				if exists(filepath.Join(d.run, name)) {
					t.Errorf("%s is left in the run directory", name)
				}
			}
			if mode == "semaphore" {
				if err := keyGone(key); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// everybody has all children work at the same time, on jobs of both ports.
func everybody(t *testing.T, ports []string, children int) {
	t.Helper()
	pids := map[string]bool{}
	var visits []*visit
	for i := range children {
		v, err := ask(fmt.Sprintf("%s/job?seconds=3&kind=sleep&id=%d", ports[i%len(ports)], i))
		if err != nil {
			t.Fatal(err)
		}
		defer v.conn.Close()
		visits = append(visits, v)
	}
	for _, v := range visits {
		body, err := v.answer()
		if err != nil {
			t.Fatal(err)
		}
		pids[strings.Fields(body)[2]] = true
	}
	if len(pids) != children {
		t.Errorf("only %v work at the same time, of %d children", pids, children)
	}
}

// semaphoreOf returns the key of a daemon's semaphore, which is there; "": in this mode it has none.
func semaphoreOf(t *testing.T, run, mode string) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(run, "semaphore"))
	if (err == nil) != (mode == "semaphore") {
		t.Fatalf("with %s: a key %q, %v", mode, key, err)
	}
	if err == nil && keyGone(string(key)) == nil {
		t.Errorf("there is no semaphore with the key %q", key)
	}
	return string(key)
}

// A parent that is killed leaves no semaphore behind: a child removes it, or, if all have been killed, the next parent.
func TestSemaphoreLeftBehind(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	run := filepath.Join(s.dir, "run")
	for _, all := range []bool{false, true, true} {
		d, err := s.serve(nil, "jobs", "-run-dir", run, "-serialize", "semaphore")
		if err != nil {
			t.Fatal(err)
		}
		key := semaphoreOf(t, run, "semaphore")
		st, err := d.status()
		if err != nil {
			t.Fatal(err)
		}
		// The parent is stopped first: it must not see its children die.
		for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
			if sig == syscall.SIGKILL && all {
				for _, c := range st.Children {
					kill(c.PID, sig)
				}
			}
			if err := kill(d.pid, sig); err != nil {
				t.Fatal(err)
			}
		}
		<-d.exited
		if !all {
			if err := eventually(patience, func() error { return keyGone(key) }); err != nil {
				t.Error(err)
			}
			continue
		}
		if keyGone(key) == nil {
			t.Error("it is gone already: this test shows nothing")
		}
		if d, err = s.serve(nil, "jobs", "-run-dir", run, "-serialize", "semaphore"); err != nil {
			t.Fatal(err)
		}
		if err := keyGone(key); err != nil {
			t.Error(err)
		}
		if err := d.interrupt(); err != nil {
			t.Error(err)
		}
	}
}

// keyGone returns an error while there is a semaphore with this key.
func keyGone(key string) error {
	text, err := os.ReadFile("/proc/sysvipc/sem")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == strings.TrimSpace(key) {
			return fmt.Errorf("there is still a semaphore: %s", line)
		}
	}
	return nil
}

// B24: a queue whose child is missing and cannot be replaced is another one's: nobody hangs in it.
func TestQueueOfTheDead(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	crash := filepath.Join(s.dir, "crash")
	d, err := s.serve(nil, "broken", "-serialize", "reuseport", "-prefork", "4", "-break", "init-if="+crash)
	if err != nil {
		t.Fatal(err)
	}
	st, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(crash, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range st.Children[:3] {
		if err := kill(c.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.await("idle=1", "state=degraded"); err != nil {
		t.Fatal(err)
	}
	for i := range 40 { // a queue in four is the one's own
		body, err := get(d.addr + "/")
		if err != nil || !strings.HasPrefix(body, fmt.Sprintf("pid=%d ", st.Children[3].PID)) {
			t.Fatalf("request %d: %q, %v", i+1, body, err)
		}
	}
	if out, err := s.command("brood", "scale", d.run, "+1").CombinedOutput(); exitStatus(err) != 1 || !strings.Contains(string(out), "there are 4 queues") {
		t.Errorf("scale: %v: %s", err, out)
	}
	if err := os.Remove(crash); err != nil {
		t.Fatal(err)
	}
	if _, err := d.await("idle=4", "state=serving"); err != nil {
		t.Fatal(err)
	}
	// Each has its own again.
	pids := map[string]bool{}
	if err := eventually(patience, func() error {
		body, err := get(d.addr + "/")
		if pid, _, ok := strings.Cut(body, " "); ok {
			pids[pid] = true
		}
		if err == nil && len(pids) < 4 {
			err = fmt.Errorf("only %v have answered", pids)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
