package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func siteOf(ts *testscript.TestScript) *site { return ts.Value(siteKey{}).(*site) }

// theDaemon returns the daemon that serve or attach was last used for.
func theDaemon(ts *testscript.TestScript) *server {
	d := siteOf(ts).last
	if d == nil {
		ts.Fatalf("there is no daemon yet: use serve or attach before")
	}
	return d
}

// need fails unless there are at least n arguments and no "!" stands before the command.
func need(ts *testscript.TestScript, neg bool, args []string, n int, usage string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", usage)
	}
}

// setDaemon tells the script which daemon is the daemon.
func setDaemon(ts *testscript.TestScript, d *server) {
	ts.Setenv("RUN", d.run)
	ts.Setenv("PID", strconv.Itoa(d.pid))
	ts.Setenv("ADDR", d.addr)
	ts.Setenv("LOG", d.log)
}

// serve starts a daemon in the foreground, with a run directory of its own and a free port unless the flags name others,
// and waits until it serves. When the script ends it is stopped, and a process of it that is left then fails the script.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "serve [-env NAME=VALUE]... PROGRAM [FLAG...]")
	var env []string
	for len(args) > 2 && args[0] == "-env" {
		env, args = append(env, args[1]), args[2:]
	}
	d, err := siteOf(ts).serve(env, args[0], args[1:]...)
	ts.Check(err)
	setDaemon(ts, d)
}

// attach makes a daemon that exec has sent into the background the daemon. It is stopped at the end like others.
func cmdAttach(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "attach RUNDIR")
	d, err := siteOf(ts).attach(args[0])
	ts.Check(err)
	setDaemon(ts, d)
}

// exits runs a program, as exec does, which must exit with just that status.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "exits STATUS PROGRAM [ARG...]")
	checkStatus(ts, args[0], ts.Exec(args[1], args[2:]...))
}

// exited waits until a daemon that serve has started has exited with just that status.
func cmdExited(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "exited STATUS")
	d := theDaemon(ts)
	select {
	case <-d.exited:
		checkStatus(ts, args[0], d.result)
	case <-time.After(patience):
		ts.Fatalf("%s does not exit", d.name)
	}
}

func checkStatus(ts *testscript.TestScript, want string, err error) {
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit status %d, want %s", got, want)
	}
}

// asuser is exits as another user, without any privilege.
func cmdAsUser(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "asuser UID STATUS PROGRAM [ARG...]")
	uid, err := strconv.ParseUint(args[0], 10, 32)
	ts.Check(err)
	cmd := siteOf(ts).command(args[2], args[3:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	checkStatus(ts, args[1], cmd.Run())
}

// crowd starts a program N times at the same moment. One of them may exit with status 0, the others have to fail; what
// they say is printed, one after the other.
func cmdCrowd(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "crowd N PROGRAM [ARG...]")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var wg sync.WaitGroup
	outputs, errs := make([]bytes.Buffer, n), make([]error, n)
	start := make(chan struct{})
	for i := range n {
		cmd := siteOf(ts).command(args[1], args[2:]...)
		cmd.Stdout, cmd.Stderr = &outputs[i], &outputs[i]
		wg.Go(func() {
			<-start
			errs[i] = cmd.Run()
		})
	}
	close(start)
	wg.Wait()
	won := 0
	for i := range n {
		ts.Stdout().Write(outputs[i].Bytes())
		if errs[i] == nil {
			won++
		}
	}
	if won != 1 {
		ts.Fatalf("%d of %d succeeded, want exactly one", won, n)
	}
}

// install puts a build of a program, which has a variable build, at a path by renaming. DEFECT is for the program broken, which knows some.
func cmdInstall(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "install PROGRAM BUILD PATH [DEFECT]")
	v := variant{program: args[0], build: args[1]}
	if len(args) > 3 {
		v.defect = args[3]
	}
	ts.Check(v.install(ts.MkAbs(args[2])))
}

// gobuild is what a developer does over a running program.
func cmdGoBuild(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "gobuild PROGRAM BUILD PATH")
	v := variant{program: args[0], build: args[1]}
	ts.Check(goBuild(ts.MkAbs(args[2]), v.ldflags(), packages[v.program]))
}

// pieces is in how many a trickle comes.
const pieces = 100

// trickle writes a build of a program to a path as a slow copy does: over the given time, in pieces, in the background. An
// old file is removed first. It returns when the first piece is there, and is given up when the script ends.
func cmdTrickle(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 4, "trickle PROGRAM BUILD PATH DURATION")
	over, err := time.ParseDuration(args[3])
	ts.Check(err)
	from, err := variant{program: args[0], build: args[1]}.file()
	ts.Check(err)
	b, err := os.ReadFile(from)
	ts.Check(err)
	path := ts.MkAbs(args[2])
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		ts.Check(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	ts.Check(err)
	piece := len(b)/pieces + 1
	_, err = f.Write(b[:piece])
	ts.Check(err)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		defer f.Close()
		for rest := b[piece:]; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			select {
			case <-time.After(over / pieces):
			case <-stop:
				return
			}
			if _, err := f.Write(rest[:min(piece, len(rest))]); err != nil {
				return // the script will miss the program
			}
		}
	}()
	s := siteOf(ts)
	s.undo = append(s.undo, func() { close(stop); <-stopped })
}

func cmdTouch(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "touch FILE...")
	for _, path := range args {
		ts.Check(os.Chtimes(ts.MkAbs(path), time.Now(), time.Now()))
	}
}

// signal sends a signal, by its name without SIG, to processes that this script has started. It is no error if one has
// just ended.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "signal NAME PID...")
	sig, ok := signals[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	for _, arg := range args[1:] {
		pid, err := strconv.Atoi(arg)
		if err == nil && pid <= 1 {
			err = fmt.Errorf("pid %d", pid)
		}
		ts.Check(err)
		if sig == syscall.SIGSTOP {
			ts.Check(stop(pid))
			continue
		}
		ts.Check(kill(pid, sig))
	}
}

var signals = map[string]syscall.Signal{
	"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT,
	"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "TTIN": syscall.SIGTTIN,
	"TTOU": syscall.SIGTTOU, "WINCH": syscall.SIGWINCH, "PIPE": syscall.SIGPIPE, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
}

// stranger starts a process that has nothing to do with any daemon. STRANGER_ID is what a pidfile of it would say.
func cmdStranger(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "stranger")
	s := siteOf(ts)
	cmd := s.command("sleep", "1000")
	ts.Check(cmd.Start())
	s.undo = append(s.undo, func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	id, err := identityOf(cmd.Process.Pid)
	ts.Check(err)
	ts.Setenv("STRANGER", strconv.Itoa(cmd.Process.Pid))
	ts.Setenv("STRANGER_ID", id)
}

// descriptors prints what the descriptors of a process lead to, one line each: NUMBER TARGET.
func cmdDescriptors(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "descriptors PID")
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	fds, err := descriptorsOf(pid)
	ts.Check(err)
	for n, target := range fds {
		fmt.Fprintln(ts.Stdout(), n, target)
	}
}

// countLines returns how many lines of a file match.
func countLines(path, pattern string) (int, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return 0, failure{err}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if re.MatchString(strings.TrimSuffix(line, "\n")) {
			n++
		}
	}
	return n, nil
}
