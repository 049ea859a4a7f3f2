package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	files "github.com/brooddaemon/brood/reload" // reload is a command here
)

func newDev() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dev [flags] PACKAGE [flags of the program]",
		GroupID: groupDevelop,
		Short:   "build a program, run it here, and roll it over to new code when its sources change",
		Long: "Dev builds a program, runs it in this terminal, and rolls it over to new code when its sources change. What does not build,\n" +
			"or does not come up, is told, and the last good build goes on. What stands behind PACKAGE is for the program.\n" +
			"Flags for go build are taken from GOFLAGS. Ctrl-C stops both.",
		Example: "  brood dev ./examples/jobs\n  brood dev --timeout 5s ./cmd/jobd -listen :8081",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("which package? that of a program is missing")
			}
			return nil
		},
	}
	cmd.Flags().SetInterspersed(false)
	timeout := cmd.Flags().Duration("timeout", 45*time.Second, "how long to wait for the program when it is to stop, before it is killed")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return dev(args[0], args[1:], *timeout, cmd.ErrOrStderr())
	}
	return cmd
}

// dev runs the program of a package, with these flags, until a signal comes.
func dev(arg string, args []string, timeout time.Duration, errw io.Writer) error {
	d := &developer{arg: arg, args: args, voice: newVoice(errw), timeout: timeout}
	if leavesForeground(d.args) {
		return usageError{errors.New("the program has to stay in the foreground: leave -daemonize out")}
	}
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("there is no go command in PATH: install Go, or add the directory that it is in to PATH")
	}
	l, err := list(context.Background(), d.arg)
	if err != nil {
		return usageError{err}
	}
	return d.live(l)
}

// leavesForeground reports whether the flags would send the program into the background.
func leavesForeground(args []string) bool {
	for _, a := range args {
		name, value, given := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(a, "-"), "-"), "=")
		if strings.HasPrefix(a, "-") && name == "daemonize" && (!given || value == "true" || value == "1") {
			return true
		}
	}
	return false
}

// A developer builds and runs one program. One goroutine, that of live, owns what stands here.
type developer struct {
	arg     string   // the package
	args    []string // of the program
	voice   *voice
	timeout time.Duration

	ctx     context.Context // of builds and questions
	helpers sync.WaitGroup
	builder *builder
	sources sources
	watch   *files.Watcher

	wanted build // the next one, if dirty
	dirty  bool  // something has changed since the last build was begun

	building bool
	ready    *build // built, and not brought to the program yet
	failed   *build // not told yet: its sources were still changing
	patience <-chan time.Time
	told     string // the errors that were told last

	unlisted bool // since the last build it was not looked which sources there are
	listing  bool
	listed   chan listing

	program *os.Process // nil: it does not run
	exited  chan error
	rolling bool
	rolled  chan verdict
	serving files.Fingerprint // of the children
	untried bool              // what is installed has neither been started nor judged by the daemon
}

// live works until a signal comes.
func (d *developer) live(l listing) (err error) {
	// The program is told when the thread that has started it ends: that must not be before this process does.
	runtime.LockOSThread()
	signals := make(chan os.Signal, 8)
	// SIGPIPE is that of standard error: nobody reads any more what there is to tell.
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	if d.builder, err = newBuilder(d.arg, l.name); err != nil {
		return err
	}
	defer func() {
		if rerr := d.builder.remove(); rerr != nil && err == nil {
			err = rerr
		}
	}()
	d.sources = l.sources
	if d.watch, err = d.open(d.sources); err != nil {
		return err
	}
	defer func() { d.watch.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	d.ctx = ctx
	defer d.helpers.Wait()
	defer cancel()
	d.listed, d.exited, d.rolled = make(chan listing, 1), make(chan error, 1), make(chan verdict, 1)
	d.dirty, d.wanted = true, build{asked: true, saved: time.Now()}
	for {
		d.step()
		select {
		case c := <-d.watch.Changes():
			if d.sources.touchedBy(c) {
				d.dirty, d.wanted = true, build{asked: true, saved: c.At.Add(-settle)}
			}
		case b := <-d.builder.done:
			d.built(b)
		case <-d.patience:
			d.tell(*d.failed)
		case l := <-d.listed:
			d.listing = false
			if err := d.follow(l); err != nil {
				d.voice.bad("some sources are not watched: %v", err)
			}
		case v := <-d.rolled:
			d.judged(v)
		case err := <-d.exited:
			select {
			case s := <-signals: // it has ended because of that
				cancel()
				d.exited <- err
				return d.stop(s, signals)
			default:
			}
			d.voice.bad("%s has ended: %s; it is started again when a change has been built", d.builder.name, ending(err))
			d.program = nil
		case s := <-signals:
			cancel()
			return d.stop(s, signals)
		}
	}
}

// open watches the sources. That files have to be polled, say, is told on standard error.
func (d *developer) open(s sources) (*files.Watcher, error) {
	set := s.set(d.builder.dir)
	set.Logger = slog.New(slog.NewTextHandler(d.voice.w, nil))
	return files.Open(set)
}

// step begins whatever can begin now.
func (d *developer) step() {
	if d.dirty && !d.building {
		// What was built before and has not been brought anywhere is outdated.
		if d.ready != nil {
			d.replace(*d.ready)
		}
		d.dirty, d.building, d.ready, d.failed, d.patience = false, true, nil, nil, nil
		made := d.wanted
		d.wanted = build{}
		d.helpers.Go(func() { d.builder.run(d.ctx, made) })
	}
	if d.ready != nil && !d.rolling {
		d.bring(*d.ready)
		d.ready = nil
	}
	if d.program == nil && d.untried && !d.rolling {
		d.start()
	}
	// The program comes first: new code is to serve as soon as it can.
	if d.unlisted && !d.listing && !d.building && !d.rolling {
		d.unlisted, d.listing = false, true
		d.helpers.Go(func() {
			l, err := list(d.ctx, d.arg)
			if err != nil { // the build tells what is wrong
				l.broken = true
			}
			d.listed <- l
		})
	}
}

// replace makes the next build do for one that nobody has seen.
func (d *developer) replace(b build) {
	if b.asked && !d.wanted.asked {
		d.wanted.asked, d.wanted.saved = true, b.saved
	}
}

// built takes note of a build.
func (d *developer) built(b build) {
	d.building, d.unlisted = false, true
	switch {
	case d.dirty:
		// It is outdated, and if it has failed, then perhaps because it saw half of a change.
		d.replace(b)
	case b.errors == "":
		d.told, d.ready = "", &b
	case d.sources.movedSince(b.begun):
		// The change will be reported, and built. Should it turn out to be none, what is wrong is told after all.
		d.failed, d.patience = &b, time.After(maxSettle+4*settle)
	default:
		d.tell(b)
	}
}

// tell prints why a build has failed, unless that has just been said.
func (d *developer) tell(b build) {
	d.failed, d.patience = nil, nil
	if b.errors == d.told {
		return
	}
	d.told = b.errors
	rest := "waiting for a change"
	if d.program != nil {
		rest = "the last good build goes on"
	}
	d.voice.errors("cannot build "+d.builder.name+"; "+rest, b.errors)
}

// follow watches other directories if other ones are to be watched. While something cannot be read, none is given up.
func (d *developer) follow(l listing) error {
	found := l.sources
	if l.broken {
		found = d.sources.with(found)
	}
	if found.equal(d.sources) {
		return nil
	}
	w, err := d.open(found)
	if err != nil {
		return err // a directory has just gone, say: the next build tries again
	}
	d.watch.Close()
	d.watch, d.sources = w, found
	// Nobody has heard what happened there before it was watched.
	if !d.dirty {
		d.dirty, d.wanted = true, build{saved: time.Now()}
	}
	return nil
}
