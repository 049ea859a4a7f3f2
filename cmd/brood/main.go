// Brood runs a daemon while it is being written, looks at running ones and steers them.
//
//	brood dev     PACKAGE [flags of the program]
//	                              build it, run it here, roll it over to new code when its sources change
//	brood status  DIR|NAME|PID    what every child is doing
//	brood top     DIR|NAME|PID    the same, live; drains or kills a child
//	brood conns   DIR|NAME|PID    the connections of every child, and the jobs that run on them
//	brood events  DIR|NAME|PID    what the parent has decided, done and seen; -f: and does from now on
//	brood why     DIR|NAME|PID PID|SLOT
//	                              the story of one child: why it was born, what happened to it, why it ended
//	brood doctor  [DIR|NAME|PID]  what is wrong around a daemon, or on this system, and what to do about it
//	brood web     DIR|NAME|PID... a page that shows daemons live, with metrics for Prometheus and health checks
//	brood reload  DIR|NAME|PID    start a new generation of children, wait until it has proved itself
//	brood upgrade DIR|NAME|PID    replace the parent's own program in its place, wait until the new one has taken over
//	brood stop    DIR|NAME|PID    finish the running jobs and stop, wait until the daemon is gone
//	brood scale   DIR|NAME|PID N  have N children at least, or +N more, or -N less
//	brood drain   DIR|NAME|PID [PID|SLOT]
//	                              have a child finish and be replaced, or all of them finish and leave the parent alone
//	brood log-level DIR|NAME|PID [LEVEL]
//	                              set the level of the log, or show it
//	brood reopen  DIR|NAME|PID    reopen the log files
//	brood completion SHELL        a script that has bash, zsh or fish complete all that
//
// A daemon is named by its run directory, by its name, or by the process id of its parent or of a child. Exit status: 0
// it is as wanted, 1 it failed or the daemon does not run, 2 the command line is wrong, 3 it took too long.
//
// Dev watches the directories of the package and of the local packages that it imports: those of the main module, of the
// workspace, and of modules that go.mod replaces by a directory, with what they embed. What does not build, or does not come
// up, is told, and the last good build goes on. Ctrl-C stops it with the program.
//
// Each command is made by a function of its own, newStatus and so on, which stands in its file. The tree is in root.go.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	exitFine    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitTimeout = 3
)

var (
	// errTimeout is returned by a command that has waited long enough.
	errTimeout = errors.New("timeout")
	// errTold is returned by a command that has told the user itself what is wrong.
	errTold = errors.New("told already")
)

// A usageError is returned by a command that has found out itself that the command line is wrong.
type usageError struct{ error }

// An outcome is an error of a command that has run. Any other error is of the command line.
type outcome struct{ error }

func (o outcome) Unwrap() error { return o.error }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errw io.Writer) int {
	root := newRoot()
	root.SetArgs(negative(args))
	root.SetOut(out)
	root.SetErr(errw)
	if len(args) == 0 {
		root.SetOut(errw)
		root.Help()
		return exitUsage
	}
	cmd, err := root.ExecuteC()
	return report(cmd, err, errw)
}

// report says what went wrong and returns the exit status.
func report(cmd *cobra.Command, err error, errw io.Writer) int {
	if err == nil {
		return exitFine
	}
	if !errors.Is(err, errTold) {
		// brood: VERB: what.
		fmt.Fprintf(errw, "%s: %v\n", strings.ReplaceAll(cmd.CommandPath(), " ", ": "), err)
	}
	ran, usage := errors.As(err, new(outcome)), errors.As(err, new(usageError))
	switch {
	case !ran:
		fmt.Fprintf(errw, "usage: %s\n", cmd.UseLine())
		return exitUsage
	case usage:
		return exitUsage
	case errors.Is(err, errTimeout):
		return exitTimeout
	}
	return exitFailed
}
