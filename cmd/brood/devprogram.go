package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/tree"
)

// devSettings are in the environment of the program unless the user has set them. New code proves itself for a moment
// only: somebody looks at it.
var devSettings = []string{"BROOD_SOAK=200ms"}

// devRules are in it whatever the user has set: it is told when to reload, and this process has to know when it ends.
var devRules = []string{"BROOD_AUTO_RELOAD_WHEN=never", "BROOD_DAEMONIZE=false"}

const (
	// arrival is how long a program may take until it can be steered.
	arrival = 10 * time.Second
	// slowVerdict is how long a reload takes before the user is told that it still goes on.
	slowVerdict = 10 * time.Second
)

// A verdict is the outcome of a reload.
type verdict struct {
	build build
	err   error
	final bool // the daemon has said so, and has not just gone away
}

// bring has the program run what was built.
func (d *developer) bring(b build) {
	same := b.program == d.builder.installed
	if err := d.builder.install(b); err != nil {
		d.voice.bad("%v", err)
		return
	}
	switch {
	case d.program == nil:
		d.untried = d.untried || b.asked || !same
	case same || b.program == d.serving:
		if b.asked {
			d.voice.say("built in %s: the same program as before", took(b.took))
		}
	default:
		d.untried, d.rolling = true, true
		p := d.program
		d.helpers.Go(func() {
			v := verdict{build: b}
			v.err, v.final = d.roll(p.Pid)
			d.rolled <- v
		})
	}
}

// start runs the program in the foreground, as a child of this process: it has its terminal and its process group, so that
// Ctrl-C reaches both. If this process is killed the program is told to stop.
func (d *developer) start() {
	d.untried = false
	cmd := exec.Command(d.builder.path(), d.args...)
	cmd.Env = slices.Concat(devSettings, os.Environ(), devRules) // of a name the last one counts
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM}
	err := cmd.Start()
	if errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("%w: is it on a file system that forbids to execute? GOTMPDIR names another directory", err)
	}
	if err != nil {
		d.voice.bad("cannot start %s: %v", d.builder.name, err)
		return
	}
	d.voice.say("%s started, process %d", d.builder.name, cmd.Process.Pid)
	d.program, d.serving = cmd.Process, d.builder.installed
	go func() { d.exited <- cmd.Wait() }()
}

// roll asks the daemon to reload and waits for its answer as long as it lives.
func (d *developer) roll(pid int) (err error, final bool) {
	slow := time.AfterFunc(slowVerdict, func() {
		d.voice.say("the daemon has not rolled over yet: see brood status %d", pid)
	})
	defer slow.Stop()
	c, err := d.reach(pid)
	if err != nil {
		return err, false
	}
	defer c.Close()
	reply, err := c.Call(d.ctx, control.Request{Verb: control.VerbReload}, nil)
	if err == nil && !reply.OK {
		return errors.New(reply.Error), true
	}
	return err, err == nil
}

// reach connects to the daemon, which may be about to start.
func (d *developer) reach(pid int) (*control.Client, error) {
	for deadline := time.Now().Add(arrival); ; {
		t, err := findPID(pid)
		if err == nil {
			var c *control.Client
			if c, err = control.Dial(t.dir); err == nil {
				return c, nil
			}
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-d.ctx.Done():
			return nil, d.ctx.Err()
		}
	}
}

// judged tells how a reload has ended.
func (d *developer) judged(v verdict) {
	d.rolling = false
	d.untried = !v.final
	switch {
	case v.err == nil:
		d.serving = v.build.program
		d.voice.good("rolled over, %s after the change (%s to build)", took(time.Since(v.build.saved)), took(v.build.took))
	case v.final:
		d.voice.bad("the new build was given up, the last good one goes on: %v", v.err)
	case d.program != nil:
		d.voice.bad("cannot roll over: %v", v.err)
	}
}

// stop ends the program and waits for it. It has got a signal of the terminal itself; another SIGTERM adds nothing to what
// the daemon has been told by then, and is what it needs if only this process was meant.
func (d *developer) stop(s os.Signal, signals <-chan os.Signal) error {
	if d.program == nil {
		return errTold
	}
	p := d.program
	p.Signal(unix.SIGTERM)
	limit := time.After(d.timeout)
	for {
		select {
		case err := <-d.exited:
			if stoppedBy(err, unix.SIGTERM, s) {
				return nil
			}
			d.voice.bad("%s has ended: %s", d.builder.name, ending(err))
			return errTold
		case s := <-signals:
			if s != unix.SIGPIPE { // which what is told here may bring
				p.Signal(s)
			}
		case <-limit:
			d.voice.bad("%s has not stopped within %v and is killed", d.builder.name, d.timeout)
			if err := tree.Kill(tree.Root{PID: p.Pid, Signal: func(s unix.Signal) error { return p.Signal(s) }}); err != nil {
				d.voice.bad("%v", err)
			}
			<-d.exited
			return errTold
		}
	}
}

// stoppedBy reports whether a program has ended well, or of one of these signals, which came before it could catch them.
func stoppedBy(err error, signals ...os.Signal) bool {
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) {
		return err == nil
	}
	st := exit.Sys().(syscall.WaitStatus)
	return st.Signaled() && slices.Contains(signals, os.Signal(st.Signal()))
}

// took is a time as people want to read it.
func took(t time.Duration) string { return t.Round(10 * time.Millisecond).String() }

func ending(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
