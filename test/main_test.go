// Package test shows from outside what a daemon of this toolkit promises: real processes, real signals, real
// connections. It imports nothing of the toolkit. What it knows it learns as an operator would: from the brood command,
// the logs, the answers to requests, and /proc.
//
// Most of it is scripts, test/scripts/*.txtar, one story each. Their commands are those of testscript (exec, stdout,
// stderr, grep, exists, ...) and the ones in the table below. Where a Go loop tells more than a script could, it is a Go
// test beside this file. Words like B23 name the lesson that a test covers.
package test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var (
	root string // holds everything; a short path, because that of a Unix socket has 107 bytes at most
	bin  string // the programs under test
)

// patience is how long a test waits for what must happen. Nothing is judged by its speed: this only ends a hopeless wait.
const patience = 20 * time.Second

// settings are in the environment of every daemon. Its pool is static, so that a number of children that a test expects is
// not a question of how busy they are; a test of the growing pool says -pool dynamic. Its reloads do not wait long for the
// new code to prove itself, and it sees changed files also when the tests run as root. WORK is how a test knows its processes.
var settings = []string{"BROOD_POOL=static", "BROOD_SOAK=50ms", "BROOD_AUTO_RELOAD_WHEN=always", "BROOD_ENVIRON=WORK",
	"GORACE=" + raceOptions}

// scriptsTime ends commands that hang.
const scriptsTime = 4 * time.Minute

func TestMain(m *testing.M) {
	if addr := os.Getenv(holdVar); addr != "" { // a client of another test process
		os.Exit(holdMain(addr))
	}
	// Most of a test is waiting. The command line comes later and overrides it.
	flag.Set("test.parallel", "4")
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "b")
	if err == nil {
		defer os.RemoveAll(dir)
		// Others than the owner must be able to execute the programs.
		err = os.Chmod(dir, 0o755)
	}
	if err == nil {
		root, bin = dir, filepath.Join(dir, "bin")
		os.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		err = buildPrograms()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func TestScripts(t *testing.T) {
	work, err := os.MkdirTemp(root, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(work, 0o755); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files:              scripts(t),
		WorkdirRoot:        work,
		Deadline:           time.Now().Add(scriptsTime),
		RequireUniqueNames: true,
		Condition:          condition,
		Cmds:               commands,
		Setup: func(env *testscript.Env) error {
			for _, kv := range settings {
				name, value, _ := strings.Cut(kv, "=")
				env.Setenv(name, value)
			}
			env.Setenv("GOTRACEBACK", "single") // the default, as users have it
			tb := env.T().(testing.TB)
			s := newSite(tb, env.WorkDir)
			env.Values[siteKey{}] = s
			env.Defer(s.clear)
			return nil
		},
	})
}

// aside are scripts about how daemons start, about files and what is printed: much of it other programs', little at the same time.
var aside = regexp.MustCompile(`^(access|command|config|conns|crash|daemonize|dev|doctor|environment|flags|foreground|launch|limits|listeners|lock|log|long|loop|nofork|pidfile|` +
	`pinned|relative|restart|status|users|why|reload_(broken|hangs|interval|late|link|many|not|saves|slow|soak|stopped|trusted))`)

// scripts returns the scripts that are to be run.
func scripts(t *testing.T) []string {
	all, err := filepath.Glob("scripts/*.txtar")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	if raceEnabled && testing.Short() { // see leaveToPlain
		all = slices.DeleteFunc(all, func(path string) bool { return aside.MatchString(filepath.Base(path)) })
	}
	return all
}

// condition knows [root]: whether the tests run as root.
func condition(name string) (bool, error) {
	if name == "root" {
		return os.Geteuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// siteKey finds a script's site.
type siteKey struct{}

// commands are what scripts can say beyond testscript's own words. Each is explained where it is defined.
//
// Most of them are about "the daemon": the one that serve or attach was last used for. They set RUN, its run directory;
// PID, its parent; ADDR, its first address; LOG, its error log.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// Daemons and programs: commands_daemon_test.go.
	"serve":   cmdServe,   // serve [-env NAME=VALUE]... PROGRAM [FLAG...]: start a daemon, wait until it serves
	"attach":  cmdAttach,  // attach RUNDIR: make a daemon that was started by exec the daemon
	"exited":  cmdExited,  // exited STATUS: wait until the daemon has exited, which must be with STATUS
	"exits":   cmdExits,   // exits STATUS PROGRAM [ARG...]: run a program that must exit with STATUS
	"asuser":  cmdAsUser,  // asuser UID STATUS PROGRAM [ARG...]: the same as another user
	"crowd":   cmdCrowd,   // crowd N PROGRAM [ARG...]: start a program N times at once; one may succeed
	"install": cmdInstall, // install PROGRAM BUILD PATH [DEFECT]: put a build of a program at PATH, with a rename
	"gobuild": cmdGoBuild, // gobuild PROGRAM BUILD PATH: go build -o PATH
	"trickle": cmdTrickle, // trickle PROGRAM BUILD PATH DURATION: write a build of a program to PATH slowly, in the background
	"touch":   cmdTouch,   // touch FILE...: set the modification time to now

	// Looking and waiting: commands_look_test.go.
	"waitstatus":  cmdWaitStatus,  // waitstatus COND...: wait until brood status shows all that, such as children=3
	"steady":      cmdSteady,      // steady DURATION COND...: it shows that, and goes on to for so long
	"pick":        cmdPick,        // pick VAR COND...: set VAR to the pid of the first child of which all that is true
	"waitlog":     cmdWaitLog,     // waitlog [-count N] [-file FILE] REGEXP: wait for N (default: some) lines in $LOG
	"waitgone":    cmdWaitGone,    // waitgone PATH|PID...: wait until these files or processes are no more
	"noprocess":   cmdNoProcess,   // noprocess [REGEXP]: wait until no process of this script (whose command matches) is left
	"isprocess":   cmdIsProcess,   // isprocess REGEXP: wait until there is one
	"nozombie":    cmdNoZombie,    // nozombie: wait until the daemon has no zombie among its children
	"beating":     cmdBeating,     // beating FILE: wait until FILE grows
	"quiet":       cmdQuiet,       // quiet FILE: wait until FILE has stopped growing for half a second
	"descriptors": cmdDescriptors, // descriptors PID: print what the descriptors of a process lead to

	// Clients and signals: commands_client_test.go.
	"request":  cmdRequest,  // request ADDR/PATH: ask and print the answer
	"everyone": cmdEveryone, // everyone N ADDR/PATH: ask N children at the same time, print each answer
	"line":     cmdLine,     // line ADDR TEXT: send a line and print the line that comes back
	"ask":      cmdAsk,      // ask ID ADDR/PATH: ask and do not wait; sets CLIENT to this end's address
	"answer":   cmdAnswer,   // answer ID: wait for the answer to that and print it
	"leave":    cmdLeave,    // leave ID fin|rst: hang up before the answer
	"load":     cmdLoad,     // load start ADDR/PATH | load stop MINIMUM: 100 requests a second, not one may fail
	"signal":   cmdSignal,   // signal NAME PID...: send a signal
	"stranger": cmdStranger, // stranger: start a process that is no daemon; sets STRANGER and STRANGER_ID
	"closer":   cmdCloser,   // closer: listen on $CLOSER and close each connection at once
}

// leaveToPlain skips a test that takes long, mostly for what other programs do, in a short run with the race detector: the run
// without it has the test, too.
func leaveToPlain(t *testing.T) {
	t.Helper()
	if raceEnabled && testing.Short() {
		t.Skip("takes long, and little of it is ours: left to the run without -race")
	}
}
