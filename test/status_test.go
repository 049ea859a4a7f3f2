package test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// B47: whatever a child was doing when it was killed, brood status goes on reading the board, and each place is filled
// again. Jobs begin and end all the time, so that many deaths fall into the middle of a child's writing.
func TestStatusWhileChildrenDie(t *testing.T) {
	t.Parallel()
	deaths := 60
	if raceEnabled {
		deaths = 20
	}
	s := openSite(t)
	d := mustServe(t, s, "jobs", "-prefork", "4")
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				get(d.addr + "/") // fails if it meets a child that dies
			}
		}
	}()
	for i := range deaths {
		// One that serves: deaths of starting children are failed starts, and their replacements wait for a while.
		pid, err := d.pick("state!=starting", fmt.Sprintf("slot=%d", i%4))
		if err != nil {
			t.Fatalf("after %d deaths: %v", i, err)
		}
		if err := kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if out, err := s.command("brood", "status", d.run).CombinedOutput(); err != nil {
			t.Fatalf("after %d deaths: %v\n%s", i+1, err, out)
		}
	}
	close(stop)
	<-ended
	if _, err := d.await("children=4", "idle=4", "state=serving", "killed=0"); err != nil {
		t.Fatal(err)
	}
}

// Whoever reads the daemon's standard error may leave: a closed terminal, a pager that has seen enough. The daemon goes on.
func TestReaderOfStandardErrorLeaves(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(s.dir, "run")
	cmd := s.command("jobs", "-run-dir", run, "-listen", "127.0.0.1:0", "-access-log", "-")
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	d := &server{site: s, name: "jobs", run: run, log: os.DevNull, pid: cmd.Process.Pid, exited: exited}
	s.daemons = append(s.daemons, d)
	if err := d.arrive(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	pid, err := d.pick("slot=0")
	if err != nil {
		t.Fatal(err)
	}
	// A death and some requests are things to write about.
	if err := kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := d.await("idle=3", "died=1"); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if body, err := get(fmt.Sprintf("%s/?%d", d.addr, i)); err != nil {
			t.Fatalf("request %d: %q, %v", i, body, err)
		}
	}
	if out, err := s.command("brood", "stop", run).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
