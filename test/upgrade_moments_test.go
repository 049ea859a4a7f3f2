package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serveUpgradable starts a broken daemon from a program that a test can replace, and returns both.
func serveUpgradable(t *testing.T, s *site, flags ...string) (d *server, path string) {
	t.Helper()
	path = filepath.Join(s.dir, "prog")
	if err := (variant{"broken", "A", ""}).deploy(path); err != nil {
		t.Fatal(err)
	}
	d, err := s.serve([]string{"BROOD_AUTO_RELOAD_WHEN=never"}, path, flags...)
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

// A daemon that is to stop in the middle of an upgrade does, at whatever moment it is told, and the job in hand comes to its end.
func TestStopWhileUpgrading(t *testing.T) {
	t.Parallel()
	for i := range scaled(6, 16) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			s := openSite(t)
			d, _ := serveUpgradable(t, s, "-prefork", "2")
			enough := filepath.Join(s.dir, "enough")
			job, err := ask(d.addr + "/await?file=" + enough)
			if err != nil {
				t.Fatal(err)
			}
			defer job.conn.Close()
			if _, err := d.await("busy=1"); err != nil {
				t.Fatal(err)
			}
			if err := kill(d.pid, syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(i) * 5 * time.Millisecond)
			if err := kill(d.pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(enough, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if body, err := job.answer(); err != nil || !strings.HasPrefix(body, "waited") {
				t.Errorf("the job: %q, %v", body, err)
			}
			if err := eventually(patience, func() error {
				if !d.gone() {
					return errors.New("the daemon does not stop")
				}
				return s.empty()
			}); err != nil {
				t.Error(err)
			}
			// In the milliseconds between two programs the signal ends the process, as it ends any other.
			if d.result != nil && d.result.Error() != "signal: terminated" {
				t.Errorf("the daemon: %v", d.result)
			}
		})
	}
}

// Signals that ask for something come at any moment of an upgrade, hundreds of them. The daemon survives,
// serves in the end, and stops as it should. Only requests for reloads and children may get lost, no client's.
func TestUpgradeStorm(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	d, path := serveUpgradable(t, s, "-prefork", "4", "-max-draining-generations", "1000", "-access-log", filepath.Join(s.dir, "access.log"))
	builds := []variant{{"broken", "A", ""}, {"broken", "B", ""}}
	for _, v := range builds { // they are built before the storm begins
		if _, err := v.file(); err != nil {
			t.Fatal(err)
		}
	}
	s.load = startLoad(d.addr + "/")
	storm := []syscall.Signal{
		syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTTIN, syscall.SIGWINCH, syscall.SIGTTOU, syscall.SIGUSR2,
	}
	for i := range scaled(300, 1000) {
		if i%100 == 0 {
			if err := builds[i/100%2].deploy(path); err != nil {
				t.Fatal(err)
			}
		}
		if err := kill(d.pid, storm[i%len(storm)]); err != nil || d.gone() {
			t.Fatalf("the daemon is gone after %d signals: %v, %v", i, err, d.result)
		}
		time.Sleep(4 * time.Millisecond)
	}
	if out, err := s.command("brood", "scale", d.run, "4").CombinedOutput(); err != nil { // WINCH may have been the last one
		t.Errorf("brood scale: %v: %s", err, out)
	}
	if _, err := d.await("state=serving", "rolling=0", "draining=0", "starting=0"); err != nil {
		t.Fatal(err)
	}
	if err := d.upgrade(); err != nil {
		t.Error(err)
	}
	if err := executes(d.pid, path); err != nil {
		t.Error(err)
	}
	n, err := countLines(d.log, "msg=upgraded")
	if err != nil || n < 2 { // one of them when the storm is over
		t.Errorf("%d upgrades, %v", n, err)
	}
	// One that is called off while it still starts, and does not hear that in time, is killed, and nobody's request with it.
	st, err := d.await("state=serving", "want=4", "died=0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.load.finish(100); err != nil {
		t.Error(err)
	}
	t.Logf("%d upgrades, %d generations, %d children; %v", n, st.Status.Generation, st.Status.Born, s.load)
	if out, err := s.command("brood", "stop", d.run).CombinedOutput(); err != nil {
		t.Errorf("brood stop: %v: %s", err, out)
	}
	<-d.exited
	if d.result != nil {
		t.Errorf("the daemon: %v", d.result)
	}
}
