// These tests run daemons for real: the test binary is its own daemon. Started with the name of a scenario in its
// environment it is a user's main that calls Run, in each of the daemon's processes; without, it runs the tests.
//
// Where a test covers a lesson that other daemons had to learn, it names it (B23).
package daemon_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/brooddaemon/brood/daemon"
)

const (
	scenarioVar = "DAEMON_SCENARIO"     // the scenario that this process plays
	siteVar     = "DAEMON_SCENARIO_DIR" // the directory of the site it belongs to
)

func TestMain(m *testing.M) {
	if name := os.Getenv(scenarioVar); name != "" {
		os.Exit(play(name))
	}
	os.Exit(m.Run())
}

// play is the main of a daemon: it is called in the parent and in each child.
func play(name string) int {
	configure := scenarios[name]
	if configure == nil {
		fmt.Fprintf(os.Stderr, "no scenario %q\n", name)
		return 2
	}
	cfg := configure()
	cfg.Environ = append(cfg.Environ, "*") // what a test sets is for all of them
	fs := flag.NewFlagSet(name, flag.ExitOnError)
	cfg.Flags(fs) // a test sets BROOD_PREFORK and so on
	fs.Parse(nil)
	if err := daemon.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

var scenarios = map[string]func() daemon.Config{}

// scenario adds one, which is what a user would write before Run, and returns its name.
func scenario(name string, configure func() daemon.Config) string {
	scenarios[name] = configure
	return name
}

// An event is a line that a daemon's process leaves for the test.
type event struct {
	What string
	ID   string `json:",omitempty"` // of the job, given by the client
	PID  int
	PPID int
	Slot int
	Text string `json:",omitempty"`
}

// note leaves an event for the test.
func note(e event) {
	e.PID, e.PPID = os.Getpid(), os.Getppid()
	record("events", e)
}

// record appends a line to a file of the site. Lines of several processes do not mix: each is one write with O_APPEND.
func record(file string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	f, err := os.OpenFile(sitePath(file), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.Write(append(b, '\n')); err != nil {
		panic(err)
	}
}

// sitePath names a file of the site, in a process of the daemon.
func sitePath(file string) string { return filepath.Join(os.Getenv(siteVar), file) }
