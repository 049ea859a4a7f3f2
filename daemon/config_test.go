package daemon

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brooddaemon/brood/reload"
)

// enough is a configuration that is complete but for its defaults.
func enough() Config {
	return Config{Name: "jobd", MainLoop: func(context.Context, *Child) error { return nil }}
}

// plain drops what cannot be compared.
var plain = cmp.FilterPath(func(p cmp.Path) bool {
	name := p.Last().String()
	return name == ".MainLoop" || name == ".OnClientDisconnect" || name == ".settings"
}, cmp.Ignore())

func TestConfigDefaults(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	cfg := enough()
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	runDir := "/run/user/7/jobd"
	if os.Geteuid() == 0 {
		runDir = "/run/jobd"
	}
	want := Config{
		Name: "jobd", RunDir: runDir, PIDFile: runDir + "/pid", ErrorLog: "-", LogLevel: "info", Prefork: 3, Concurrency: 1,
		StartTimeout: 10 * time.Second, DrainTimeout: 5 * time.Minute, StopTimeout: 30 * time.Second,
		KillGrace: 2 * time.Second, LingerTimeout: 5 * time.Second,
		Pool: Dynamic, MaxChildren: 150, MinSpare: 1, IdleTimeout: time.Minute, MinChildAge: 10 * time.Second,
		ClientTimeout: 75 * time.Second, HalfClose: HalfCloseGone,
		IdleEvery: time.Second, Umask: 0o027, Soak: 2 * time.Second, MaxDrainingGenerations: 4, MaxDrainingChildren: 214, AutoReloadWhen: NotRoot,
		AccessFormat: AccessCombined, LogFormat: LogText, Serialize: SerializeExclusive,
	}
	if diff := cmp.Diff(want, cfg, plain); diff != "" {
		t.Errorf("want (-) against got (+):\n%s", diff)
	}
	if got := cfg.OnClientDisconnect(Disconnect{}); got != Cancel {
		t.Errorf("the policy says %v", got)
	}

	cfg = enough()
	cfg.Name = ""
	if err := cfg.complete(); err != nil || cfg.Name != filepath.Base(os.Args[0]) {
		t.Errorf("its name is %q, %v", cfg.Name, err)
	}

	cfg = enough()
	cfg.Daemonize = true
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	if cfg.Dir != "/" || cfg.ErrorLog != runDir+"/error.log" || cfg.AccessLog != "" {
		t.Errorf("in the background: %q, %q, %q", cfg.Dir, cfg.ErrorLog, cfg.AccessLog)
	}
}

// B35: whatever is a path means what it means where the daemon is started.
func TestConfigPaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	cfg := enough()
	cfg.Dir, cfg.RunDir, cfg.PIDFile, cfg.ErrorLog, cfg.AccessLog = "a", "../b", "./c", "d/e", "-"
	cfg.Listen = []string{"unix:s", "/abs/../t", ":1", "unix:/u,:2,cert=c,key=/k"}
	cfg.AutoReload = reload.Set{Dirs: []string{"conf", "/etc"}, Files: []string{"file"}}
	given := cfg
	if err := cfg.complete(); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	want := given
	want.Dir, want.RunDir, want.PIDFile, want.ErrorLog = in("a"), in("../b"), in("c"), in("d/e")
	want.Listen = []string{in("s"), "/t", ":1", "/u,:2,cert=" + in("c") + ",key=/k"}
	want.AutoReload = reload.Set{Dirs: []string{in("conf"), "/etc"}, Files: []string{in("file")}}
	want.LogLevel = cfg.LogLevel
	want.Prefork, want.Concurrency = cfg.Prefork, cfg.Concurrency
	want.StartTimeout, want.DrainTimeout, want.StopTimeout = cfg.StartTimeout, cfg.DrainTimeout, cfg.StopTimeout
	want.KillGrace, want.LingerTimeout = cfg.KillGrace, cfg.LingerTimeout
	want.ClientTimeout, want.HalfClose = cfg.ClientTimeout, cfg.HalfClose
	want.AccessFormat, want.LogFormat, want.Serialize = cfg.AccessFormat, cfg.LogFormat, cfg.Serialize
	want.Umask, want.Soak, want.AutoReloadWhen = cfg.Umask, cfg.Soak, cfg.AutoReloadWhen
	want.MaxDrainingGenerations, want.MaxDrainingChildren = cfg.MaxDrainingGenerations, cfg.MaxDrainingChildren
	want.Pool, want.MaxChildren, want.MinSpare = cfg.Pool, cfg.MaxChildren, cfg.MinSpare
	want.IdleTimeout, want.MinChildAge, want.IdleEvery = cfg.IdleTimeout, cfg.MinChildAge, cfg.IdleEvery
	if diff := cmp.Diff(want, cfg, plain); diff != "" {
		t.Errorf("want (-) against got (+):\n%s", diff)
	}
	// It is a copy: what the caller holds is as it was.
	if given.Listen[0] != "unix:s" || given.AutoReload.Dirs[0] != "conf" || given.AutoReload.Files[0] != "file" {
		t.Errorf("the caller's lists have changed: %q %+v", given.Listen, given.AutoReload)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.MainLoop = nil }, "MainLoop"},
		{func(c *Config) { c.Name = "a/b" }, `"a/b"`},
		{func(c *Config) { c.Name = ".." }, `".."`},
		{func(c *Config) { c.Name = "-x" }, `"-x"`},
		{func(c *Config) { c.Name = strings.Repeat("x", 65) }, "64"},
		{func(c *Config) { c.Name = "a b" }, "a b"},
		{func(c *Config) { c.Prefork = -1 }, "Prefork is -1"},
		{func(c *Config) { c.Prefork = mostChildren + 1 }, "Prefork is 4097"},
		{func(c *Config) { c.Pool = "big" }, `Pool is "big"`},
		{func(c *Config) { c.Prefork, c.MaxChildren = 5, 4 }, "MaxChildren is 4"},
		{func(c *Config) { c.MinSpare = -1 }, "MinSpare is -1"},
		{func(c *Config) { c.MinSpare = 151 }, "MinSpare is 151"},
		{func(c *Config) { c.MinSpare, c.MaxSpare = 5, 4 }, "less than MinSpare"},
		{func(c *Config) { c.HalfClose = "no" }, `HalfClose is "no": want "gone", "confirm" or "ignore"`},
		{func(c *Config) { c.ClientTimeout = 4 * time.Second }, "ClientTimeout is 4s: want at least 5s"},
		{func(c *Config) { c.MaxRequests = -1 }, "MaxRequests is -1"},
		{func(c *Config) { c.JobTimeout = -1 }, "JobTimeout is -1ns"},
		{func(c *Config) { c.Concurrency = -1 }, "Concurrency is -1"},
		{func(c *Config) { c.Concurrency = 1<<20 + 1 }, "Concurrency is 1048577"},
		{func(c *Config) { c.StartTimeout = -time.Second }, "StartTimeout is -1s"},
		{func(c *Config) { c.DrainTimeout = -1 }, "DrainTimeout is -1ns"},
		{func(c *Config) { c.StopTimeout = -time.Minute }, "StopTimeout is -1m0s"},
		{func(c *Config) { c.LingerTimeout = -1 }, "LingerTimeout is -1ns"},
		{func(c *Config) { c.MinReloadInterval = -1 }, "MinReloadInterval is -1ns"},
		{func(c *Config) { c.AutoReloadWhen = "yes" }, `AutoReloadWhen is "yes"`},
		{func(c *Config) { c.Listen = []string{":1", "nonsense"} }, `"nonsense"`},
		{func(c *Config) { c.Daemonize, c.ErrorLog = true, "-" }, "ErrorLog"},
		{func(c *Config) { c.LogLevel = "INFO" }, "LogLevel"},
		{func(c *Config) { c.LogLevel = "loud" }, "LogLevel"},
		{func(c *Config) { c.Daemonize, c.AccessLog = true, "-" }, "AccessLog"},
		{func(c *Config) { c.AccessFormat = "mine" }, `AccessFormat is "mine": want "combined", "common", "json" or "own"`},
		{func(c *Config) { c.LogFormat = "xml" }, `LogFormat is "xml": want "text" or "json"`},
	} {
		cfg := enough()
		c.change(&cfg)
		if err := cfg.complete(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error that says %q", err, c.want)
		}
	}
	for _, ok := range []func(*Config){
		func(c *Config) { c.KillGrace = -time.Second },            // kill at once
		func(c *Config) { c.AutoReloadCheckEvery = -time.Second }, // never
		func(c *Config) { c.Prefork, c.Concurrency = mostChildren, 1<<20 },
		func(c *Config) { c.ErrorLog, c.AccessLog = "-", "-" },
	} {
		cfg := enough()
		ok(&cfg)
		if err := cfg.complete(); err != nil {
			t.Error(err)
		}
	}
}

// B57: a child that runs one job at a time has one processor, others their share.
func TestConfigProcs(t *testing.T) {
	n := runtime.GOMAXPROCS(0)
	for _, c := range []struct{ prefork, concurrency, want int }{
		{3, 1, 1}, {1, 2, n}, {n, 2, min(2, n)}, {10 * n, 8, min(2, n)},
	} {
		cfg := Config{Prefork: c.prefork, Concurrency: c.concurrency}
		if got := cfg.procs(); got != c.want {
			t.Errorf("%d children with %d jobs each have %d processors, want %d", c.prefork, c.concurrency, got, c.want)
		}
	}
}

// A parent that has started its children has no more addresses to give them, nor more than they can take.
func TestParentListenRefuses(t *testing.T) {
	p := &Parent{listenDone: true}
	if _, err := p.Listen("tcp", "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "AfterInit") {
		t.Errorf("after the start: %v", err)
	}
	p = &Parent{listeners: make([]*listener, maxListeners)}
	if _, err := p.Listen("tcp", "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "256") {
		t.Errorf("one too many: %v", err)
	}
}

// B57: what is derived from the number of processors follows what this process may use. That is what the runtime makes of
// a container's quota (Go 1.25), and not the number of processors in the machine.
func TestSizesFollowProcessors(t *testing.T) {
	for _, c := range []struct{ processors, starts, procs int }{{1, 2, 1}, {2, 4, 2}, {8, 16, 6}, {96, 192, 64}} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.processors))
			cfg := Config{Concurrency: 10, Prefork: 3}
			if starts, procs := parallelStarts(), cfg.procs(); starts != c.starts || procs != c.procs {
				t.Errorf("with %d processors %d children start at once and each gets %d; want %d and %d", c.processors, starts, procs, c.starts, c.procs)
			}
			if one := (&Config{Concurrency: 1, Prefork: 3}).procs(); one != 1 {
				t.Errorf("a child with one job at a time gets %d processors", one)
			}
		}()
	}
}
