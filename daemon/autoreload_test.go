package daemon_test

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/reload"
	"github.com/brooddaemon/brood/scoreboard"
)

// watching is a daemon that watches the directory conf of its site, or another one.
var watching = scenario("watching", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.AutoReload = reload.Dirs(cmp.Or(os.Getenv("WATCHED"), sitePath("conf")))
	return cfg
})

// handling is one that deals with changes in its own way: the name of the changed file says how.
var handling = scenario("handling", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.AutoReload = reload.Dirs(sitePath("conf"))
	cfg.AutoReloadHandler = func(p *daemon.Parent, c reload.Change) {
		name := filepath.Base(c.Paths[0])
		note(event{What: "changed", ID: name})
		switch name {
		case "panic":
			panic("this handler panics")
		case "goexit":
			runtime.Goexit()
		case "hang":
			awaitGate(context.Background(), "hang")
		case "reload":
			p.Reload("the handler wants it")
		}
	}
	return cfg
})

// startWatching starts a daemon on a site that has a directory conf.
func startWatching(t *testing.T, scenario string, env ...string) *site {
	t.Helper()
	return launchAs(t, scenario, func(s *site) {
		if err := os.Mkdir(s.path("conf"), 0o755); err != nil {
			t.Fatal(err)
		}
	}, append(env, listen("tcp4"))...).served()
}

// awaitReload waits until all children are of the second generation, for that cause.
func (s *site) awaitReload(cause string) {
	s.t.Helper()
	s.await("a reload", func(b *scoreboard.Snapshot) bool {
		return b.State == "serving" && b.Generation == 2 && b.ReloadOK && strings.HasSuffix(b.Reload, cause)
	})
}

// remains checks for some time that something holds.
func (s *site) remains(what string, holds func() bool) {
	s.t.Helper()
	for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if !holds() {
			s.t.Fatalf("want %s:\n%s", what, s.log())
		}
	}
}

// change writes a file that the daemon watches.
func (s *site) change(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(s.path("conf/"+name), []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// Files are watched unless the daemon runs as root or they are not to be; root is told so, and how to have them watched.
func TestAutoReloadWhen(t *testing.T) {
	root := os.Geteuid() == 0
	for _, c := range []struct {
		when    string
		watches bool
		warns   bool
	}{
		{"", !root, root},
		{"not-root", !root, root},
		{"always", true, false},
		{"never", false, false},
	} {
		t.Run(c.when, func(t *testing.T) {
			t.Parallel()
			s := startWatching(t, watching, "BROOD_AUTO_RELOAD_WHEN="+c.when)
			said := 0
			for line := range strings.Lines(s.log()) {
				if strings.Contains(line, "level=WARN") && strings.Contains(line, "-auto-reload-when always") {
					said++
				}
			}
			if (said == 1) != c.warns || said > 1 {
				t.Errorf("the log says %d times that files are not watched", said)
			}
			s.change("f", "new")
			if c.watches {
				s.awaitReload("conf/f changed")
				return
			}
			// It has settled for 300 ms when it is reported; a reload that is asked for does not wait for that.
			if b := s.reload(); b.Generation != 2 || b.Reload != "signal SIGHUP" {
				t.Errorf("generation %d, reloaded for %s", b.Generation, b.Reload)
			}
			s.remains("nobody to reload again", func() bool { return s.board().Generation == 2 })
		})
	}
}

// A handler gets each change and decides itself. Whatever it does, it gets the next one.
func TestAutoReloadHandler(t *testing.T) {
	t.Parallel()
	s := startWatching(t, handling)
	s.change("panic", "1")
	s.event("changed", "panic")
	s.change("goexit", "1")
	s.event("changed", "goexit")
	s.change("hang", "1")
	s.event("changed", "hang")
	// While it hangs it is not called again; what comes is kept for it.
	s.change("a", "1")
	s.remains("the handler to be left alone", func() bool { return len(s.eventsOf("changed", "a")) == 0 })
	s.open("hang")
	s.event("changed", "a")
	if g := s.board().Generation; g != 1 {
		t.Errorf("nobody has asked for a reload, but this is generation %d", g)
	}
	s.change("reload", "1")
	s.awaitReload("the handler wants it")
	for _, want := range []string{"AutoReloadHandler panicked: this handler panics", `hook=AutoReloadHandler err="it has ended its goroutine"`} {
		if n := strings.Count(s.log(), want); n != 1 {
			t.Errorf("the log says %d times %s:\n%s", n, want, s.log())
		}
	}
}

// What the daemon itself writes in a directory that it watches does not make it reload: its logs, also when they are
// rotated, and its pidfile.
func TestAutoReloadNotForItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startWatching(t, watching, "WATCHED="+dir, "BROOD_ERROR_LOG="+dir+"/error.log", "BROOD_ACCESS_LOG="+dir+"/access.log",
		"BROOD_PID_FILE="+dir+"/pid")
	if err := os.WriteFile(dir+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.awaitReload(dir + "/f changed")
	if err := os.Rename(dir+"/error.log", dir+time.Now().UTC().Format("/error-2006-01-02T15-04-05.000.log")); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGUSR1, s.board().PID)
	if err := os.WriteFile(dir+"/g", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b := s.await("another reload", func(b *scoreboard.Snapshot) bool { return b.State == "serving" && b.Generation > 2 })
	if b.Reload != dir+"/g changed" {
		t.Errorf("it has reloaded because of %s", b.Reload)
	}
	// The log has grown with it.
	s.remains("one reload for each file and no more", func() bool { return s.board().Generation == 3 })
}
