package daemon_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// start starts the daemon of a scenario and waits until it serves. env is added to its environment.
func start(t testing.TB, scenario string, env ...string) *site {
	t.Helper()
	return launch(t, scenario, env...).served()
}

// served waits until the daemon serves.
func (s *site) served() *site {
	s.t.Helper()
	s.await("serving", func(b *scoreboard.Snapshot) bool { return b.State == "serving" })
	return s
}

// launch starts the daemon of a scenario. At the test's end it is stopped, if it still runs, and nothing of it may be
// left.
func launch(t testing.TB, scenario string, env ...string) *site {
	t.Helper()
	return launchAs(t, scenario, nil, env...)
}

// launchAs is launch with a site or a command that prepare has changed.
func launchAs(t testing.TB, scenario string, prepare func(s *site), env ...string) *site {
	t.Helper()
	// Not t.TempDir: its paths are too long for Unix sockets.
	dir, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, cmd: exec.Command(program), exited: make(chan struct{})}
	s.cmd.Dir = dir
	log, err := os.Create(s.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "BROOD") })
	s.cmd.Env = append(s.cmd.Env, scenarioVar+"="+scenario, siteVar+"="+dir, "BROOD_RUN_DIR="+s.path("run"), "BROOD_POOL=static", "BROOD_SOAK=50ms", "BROOD_AUTO_RELOAD_WHEN=always",
		// Without it each process built with -race sleeps for a second when it exits.
		"GORACE=atexit_sleep_ms=0")
	s.cmd.Env = append(s.cmd.Env, env...)
	if prepare != nil {
		prepare(s)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(s.clear)
	return s
}

// clear ends the daemon if the test has not, and looks for what is left of it.
func (s *site) clear() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	if !s.over(patience) {
		s.t.Errorf("the daemon does not stop:\n%s", s.cast())
		s.cmd.Process.Kill()
		<-s.exited
	}
	left := s.processes()
	for end := time.Now().Add(patience); len(left) > 0 && time.Now().Before(end); left = s.processes() {
		time.Sleep(10 * time.Millisecond)
	}
	if len(left) > 0 {
		s.t.Errorf("left behind:\n%s", s.cast())
		for _, p := range left {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	log := s.log()
	if strings.Contains(log, "DATA RACE") {
		s.t.Error("the daemon has a data race")
	}
	if s.t.Failed() {
		s.t.Logf("the daemon's log:\n%s", log)
	}
}
