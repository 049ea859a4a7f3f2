// Brood runs a daemon while it is being written, looks at running ones and steers them.
//
//	brood dev     PACKAGE [flags of the program]
//	                              build it, run it here, roll it over to new code when its sources change
//	brood status  DIR|NAME|PID    what every child is doing
//	brood conns   DIR|NAME|PID    the connections of every child, and the jobs that run on them
//	brood events  DIR|NAME|PID    what the parent has decided, done and seen; -f: and does from now on
//	brood why     DIR|NAME|PID PID|SLOT
//	                              the story of one child: why it was born, what happened to it, why it ended
//	brood reload  DIR|NAME|PID    start a new generation of children, wait until it has proved itself
//	brood upgrade DIR|NAME|PID    replace the parent's own program in its place, wait until the new one has taken over
//	brood stop    DIR|NAME|PID    finish the running jobs and stop, wait until the daemon is gone
//	brood scale   DIR|NAME|PID N  have N children at least, or +N more, or -N less
//	brood reopen  DIR|NAME|PID    reopen the log files
//
// A daemon is named by its run directory, by its name, or by the process id of its parent or of a child. Exit status: 0
// it is as wanted, 1 it failed or the daemon does not run, 2 the command line is wrong, 3 it took too long.
//
// Dev watches the directories of the package and of the local packages that it imports: those of the main module, of the
// workspace, and of modules that go.mod replaces by a directory, with what they embed. What does not build, or does not come
// up, is told, and the last good build goes on. Ctrl-C stops it with the program.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Exit statuses.
const (
	exitFine    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitTimeout = 3
)

// errTimeout is returned by a command that has waited long enough.
var errTimeout = errors.New("timeout")

// A command is one verb.
type command struct {
	name  string
	takes string // a second argument, always the last; in brackets: may be left out
	about string
	run   func(t target, o options, out io.Writer) error
	flags func(fs *flag.FlagSet, o *options)
}

// options are the flags of all commands; each defines those it has.
type options struct {
	json    bool
	follow  bool
	n       uint
	quick   bool
	timeout time.Duration
	wait    bool
	name    string // the first argument
	last    string // the second argument
}

func waiting(limit time.Duration) func(*flag.FlagSet, *options) {
	return func(fs *flag.FlagSet, o *options) {
		fs.DurationVar(&o.timeout, "timeout", limit, "how long to wait for the effect")
	}
}

func renewing(fs *flag.FlagSet, o *options) {
	waiting(time.Minute)(fs, o)
	fs.BoolVar(&o.wait, "wait", true, "wait for the outcome; -wait=false: until it has begun")
}

var commands = []command{
	{"status", "", "what every child is doing", status, func(fs *flag.FlagSet, o *options) {
		fs.BoolVar(&o.json, "json", false, "print JSON")
	}},
	{"conns", "", "the connections of every child, and the jobs that run on them", conns, func(fs *flag.FlagSet, o *options) {
		fs.BoolVar(&o.json, "json", false, "print JSON")
	}},
	{"events", "", "what the parent has decided, done and seen", events, func(fs *flag.FlagSet, o *options) {
		fs.BoolVar(&o.json, "json", false, "print a line of JSON for each")
		fs.BoolVar(&o.follow, "f", false, "go on until the daemon ends")
		fs.UintVar(&o.n, "n", 50, "begin with the last `number` of events")
	}},
	{"why", "[PID|SLOT]", "the story of one child: why it was born, what happened to it, why it ended", why, func(*flag.FlagSet, *options) {}},
	{"reload", "", "start a new generation of children and wait until it has proved itself", reload, renewing},
	{"upgrade", "", "replace the parent's own program, with the children as they are, and wait until the new one has taken over", upgrade, renewing},
	{"stop", "", "finish the running jobs, stop, and wait until the daemon is gone", stop, func(fs *flag.FlagSet, o *options) {
		waiting(time.Minute)(fs, o)
		fs.BoolVar(&o.quick, "quick", false, "cancel the running jobs")
	}},
	{"scale", "N", "have N children at least (+N: more, -N: less) and wait until they serve", scale, waiting(time.Minute)},
	{"reopen", "", "reopen the log files", reopen, waiting(10 * time.Second)},
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errw io.Writer) int {
	if len(args) == 0 {
		usage(errw)
		return exitUsage
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(out)
		return exitFine
	}
	if args[0] == "dev" {
		return dev(args[1:], errw)
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c.call(args[1:], out, errw)
		}
	}
	fmt.Fprintf(errw, "brood: unknown command %q\n", args[0])
	usage(errw)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "usage: brood COMMAND [flags] DIR|NAME|PID\n       brood dev [flags] PACKAGE [flags of the program]\n\n")
	fmt.Fprintf(w, "  %-8s %s\n", "dev", devAbout)
	for _, c := range commands {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.about)
	}
	fmt.Fprint(w, "\nA daemon is named by its run directory, its name, or the process id of its parent or of a child.\n"+
		"brood COMMAND -h lists a command's flags.\n")
}

func (c command) call(args []string, out, errw io.Writer) int {
	var o options
	fs := flag.NewFlagSet("brood "+c.name, flag.ContinueOnError)
	fs.SetOutput(errw)
	fs.Usage = func() {
		fmt.Fprintf(errw, "usage: brood %s [flags] DIR|NAME|PID %s\n%s\n", c.name, c.takes, c.about)
		fs.PrintDefaults()
	}
	c.flags(fs, &o)
	if c.takes != "" && len(args) > 1 {
		o.last, args = args[len(args)-1], args[:len(args)-1]
	}
	// Flags may stand before and behind the daemon's name.
	var names []string
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			return exitFine
		}
		if err != nil {
			return exitUsage
		}
		if fs.NArg() == 0 {
			break
		}
		names, args = append(names, fs.Arg(0)), fs.Args()[1:]
	}
	if len(names) != 1 || c.takes != "" && o.last == "" && !strings.HasPrefix(c.takes, "[") {
		fs.Usage()
		return exitUsage
	}
	o.name = names[0]
	t, err := find(o.name)
	if err == nil {
		err = c.run(t, o, out)
	}
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errTimeout):
		fmt.Fprintf(errw, "brood: %s: %v\n", c.name, err)
		return exitTimeout
	}
	fmt.Fprintf(errw, "brood: %s: %v\n", c.name, err)
	return exitFailed
}
