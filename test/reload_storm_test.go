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

// deploy puts a variant at path without copying it, so that it can be done often.
func (v variant) deploy(path string) error {
	from, err := v.file()
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := os.Link(from, next); err != nil {
		return err
	}
	defer os.Remove(next) // rename(2) leaves it if it is the same file
	return os.Rename(next, path)
}

// lostAtMost ends the load and returns an error if more requests have failed than may have been in the hands of children
// that died.
func (l *load) lostAtMost(n uint64) error {
	l.end()
	if len(l.failed) > int(n) {
		return fmt.Errorf("%d children have died, but %v: %w", n, l, errors.Join(l.failed...))
	}
	return nil
}

// B21, B23: fifty times a second somebody asks for a reload, and ten times a second another build is there: good ones, and
// such as do not start or die soon. The daemon serves on. Requests are lost only with the children that had them, and
// when the last build is a good one all children are of it.
func TestReloadStorm(t *testing.T) {
	t.Parallel()
	mixed := []string{"", "exit", "", "init", "", "dies-20ms", "", "dies-500ms", "", "dies-50ms"}
	late := []string{"dies-100ms", "dies-30ms"}
	for _, c := range []struct {
		name    string
		defects []string
		flags   string
	}{
		{"good", []string{""}, "-prefork 6"},
		{"mixed", mixed, "-prefork 6"},
		{"late", late, "-prefork 20"},
		{"no soak", late, "-prefork 20 -soak -1ns"},
		{"growing", mixed, "-pool dynamic -max-children 20"},
		{"growing and shrinking", mixed, "-pool ondemand -max-children 20 -idle-timeout 100ms -min-child-age -1ns"},
		{"one job each", mixed, "-prefork 6 -max-requests 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := openSite(t)
			path := filepath.Join(s.dir, "prog")
			builds := []variant{{"broken", "A", ""}}
			for _, defect := range c.defects {
				builds = append(builds, variant{"broken", "B", defect})
			}
			for _, v := range builds { // they are built before the storm begins
				if err := v.deploy(path); err != nil {
					t.Fatal(err)
				}
			}
			if err := builds[0].deploy(path); err != nil {
				t.Fatal(err)
			}
			d, err := s.serve([]string{"BROOD_SOAK=200ms", "BROOD_AUTO_RELOAD_WHEN=never"}, path, strings.Fields(c.flags)...)
			if err != nil {
				t.Fatal(err)
			}
			s.load = startLoad(d.addr + "/")
			for i := range 50 * scaled(2, 5) {
				if i%5 == 0 {
					if err := builds[i/5%len(builds)].deploy(path); err != nil {
						t.Fatal(err)
					}
				}
				if err := kill(d.pid, syscall.SIGHUP); err != nil || d.gone() {
					t.Fatalf("the daemon is gone: %v", err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			if err := builds[0].deploy(path); err != nil {
				t.Fatal(err)
			}
			// Signals that came while one was under way have become one more.
			if out, err := s.command("brood", "reload", d.run).CombinedOutput(); err != nil {
				t.Errorf("brood reload: %v: %s", err, out)
			}
			st, err := d.await("state=serving", "reload_ok=true", "draining=0")
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range st.Children {
				if c.Generation != st.Status.Generation {
					t.Errorf("a child of generation %d serves on: %v", c.Generation, st)
				}
			}
			body, err := get(d.addr + "/")
			if err != nil || !strings.Contains(body, "build=A") {
				t.Errorf("the last build answers %q, %v", body, err)
			}
			if err := s.load.lostAtMost(st.Status.Died); err != nil {
				t.Error(err)
			}
			t.Logf("%d generations, %d children, %d died; %v", st.Status.Generation, st.Status.Born, st.Status.Died, s.load)
		})
	}
}

// B21: code that dies at any moment of its probation is given up, even if it has done jobs by then, and the old children
// come back, all of them.
func TestBuildThatDies(t *testing.T) {
	t.Parallel()
	for _, children := range []string{"1", "2", "3", "12"} {
		for _, life := range []string{"0s", "20ms", "100ms", "400ms", "800ms"} {
			t.Run(children+" children live for "+life, func(t *testing.T) {
				t.Parallel()
				s := openSite(t)
				path := filepath.Join(s.dir, "prog")
				if err := (variant{"broken", "A", ""}).deploy(path); err != nil {
					t.Fatal(err)
				}
				d, err := s.serve([]string{"BROOD_SOAK=2s", "BROOD_AUTO_RELOAD_WHEN=never"}, path, "-prefork", children)
				if err != nil {
					t.Fatal(err)
				}
				if err := (variant{"broken", "B", "dies-" + life}).deploy(path); err != nil {
					t.Fatal(err)
				}
				s.load = startLoad(d.addr + "/")
				out, err := s.command("brood", "reload", d.run).CombinedOutput()
				if exitStatus(err) != 1 || !strings.Contains(string(out), "exit status 9") {
					t.Errorf("brood reload: %v: %s", err, out)
				}
				st, err := d.await("state=serving", "generation=1", "generations=1", "children="+children, "reload_ok=false")
				if err != nil {
					t.Fatal(err)
				}
				if err := s.load.lostAtMost(st.Status.Died); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
