package test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// waitstatus waits until brood status --json of the daemon shows everything that is asked for; see (fields).unmet.
func cmdWaitStatus(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "waitstatus COND...")
	_, err := theDaemon(ts).await(args...)
	ts.Check(err)
}

// steady looks for a while and fails if a condition is not met in between: for things that must not happen.
func cmdSteady(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "steady DURATION COND...")
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	daemon := theDaemon(ts)
	for begun := time.Now(); time.Since(begun) < d; time.Sleep(50 * time.Millisecond) {
		st, err := daemon.status()
		ts.Check(err)
		ts.Check(st.fields().unmet(args[1:]))
	}
}

// pick sets a variable to the pid of a child, and waits for one of which all that is said is true: its slot, pid,
// generation, state, busy, running, cause, done, job, client, text.
func cmdPick(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "pick VAR COND...")
	pid, err := theDaemon(ts).pick(args[1:]...)
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(pid))
}

// waitlog waits for lines that match: some, or with -count exactly so many.
func cmdWaitLog(ts *testscript.TestScript, neg bool, args []string) {
	usage := "waitlog [-count N] [-file FILE] REGEXP"
	want, file := -1, ts.Getenv("LOG")
	for len(args) > 2 {
		switch args[0] {
		case "-count":
			n, err := strconv.Atoi(args[1])
			ts.Check(err)
			want = n
		case "-file":
			file = ts.MkAbs(args[1])
		default:
			ts.Fatalf("usage: %s", usage)
		}
		args = args[2:]
	}
	need(ts, neg, args, 1, usage)
	ts.Check(eventually(patience, func() error {
		n, err := countLines(file, args[0])
		switch {
		case err != nil:
			return err
		case n == 0 && want != 0 || n < want:
			return fmt.Errorf("%d lines of %s match %q, want %d", n, file, args[0], max(want, 1))
		case want >= 0 && n > want:
			return failure{fmt.Errorf("%d lines of %s match %q, want only %d", n, file, args[0], want)}
		}
		return nil
	}))
}

// waitgone waits until the files or processes are no more.
func cmdWaitGone(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "waitgone PATH|PID...")
	for _, arg := range args {
		ts.Check(eventually(patience, func() error {
			if pid, err := strconv.Atoi(arg); err == nil {
				if !isGone(pid) {
					p, _ := lookAt(pid)
					return fmt.Errorf("process %v is still there", p)
				}
				return nil
			}
			if exists(ts.MkAbs(arg)) {
				return fmt.Errorf("%s is still there", arg)
			}
			return nil
		}))
	}
}

// noprocess waits until nothing is left of the processes that this script has started, whoever their parents are; with a
// pattern, of those whose command line matches.
func cmdNoProcess(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "noprocess [REGEXP]")
	if len(args) == 0 {
		args = []string{""}
	}
	ts.Check(eventually(patience, func() error {
		if p, found := find(ts, args[0]); found {
			return fmt.Errorf("process %v is still there", p)
		}
		return nil
	}))
}

// isprocess waits until there is one.
func cmdIsProcess(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "isprocess REGEXP")
	ts.Check(eventually(patience, func() error {
		if _, found := find(ts, args[0]); !found {
			return fmt.Errorf("there is no process %q", args[0])
		}
		return nil
	}))
}

// find returns a process of the script whose command line matches.
func find(ts *testscript.TestScript, pattern string) (process, bool) {
	re, err := regexp.Compile(pattern)
	ts.Check(err)
	for _, p := range siteOf(ts).processes() {
		if re.MatchString(p.command) {
			return p, true
		}
	}
	return process{}, false
}

// nozombie waits until every dead child of the daemon has been reaped.
func cmdNoZombie(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "nozombie")
	pid := theDaemon(ts).pid
	ts.Check(eventually(patience, func() error {
		for _, p := range childrenOf(pid) {
			if p.state == 'Z' {
				return fmt.Errorf("%v is a zombie", p)
			}
		}
		return nil
	}))
}

// beating waits until a job's heartbeat file grows: the job works.
func cmdBeating(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "beating FILE")
	path := ts.MkAbs(args[0])
	first := sizeOf(path)
	ts.Check(eventually(patience, func() error {
		if sizeOf(path) <= first {
			return fmt.Errorf("%s does not grow", args[0])
		}
		return nil
	}))
}

// quiet waits until a job's heartbeat file has not grown for half a second, ten times its beat: nobody works any more.
func cmdQuiet(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "quiet FILE")
	path := ts.MkAbs(args[0])
	size, since := sizeOf(path), time.Now()
	ts.Check(eventually(patience, func() error {
		if now := sizeOf(path); now != size {
			size, since = now, time.Now()
		}
		if time.Since(since) < 500*time.Millisecond {
			return fmt.Errorf("%s goes on growing", args[0])
		}
		return nil
	}))
}

func sizeOf(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return st.Size()
}
