package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The groups of commands in the help.
const (
	groupLook    = "look"
	groupSteer   = "steer"
	groupDevelop = "develop"
)

// daemonArg stands for a daemon in the usage of a command.
const daemonArg = "DIR|NAME|PID"

// newRoot makes the whole tree of commands.
func newRoot() *cobra.Command {
	cobra.EnableCommandSorting = false // in the order in which they are added
	root := &cobra.Command{
		Use:   "brood COMMAND [flags] " + daemonArg,
		Short: "looks at daemons and steers them, and runs one while it is written",
		Long: "Brood looks at running daemons and steers them, and runs one for its developer.\n\n" +
			"A daemon is named by its run directory, its name, or the process id of its parent or of a child. Exit status: 0 it is " +
			"as wanted,\n1 it failed or the daemon does not run, 2 the command line is wrong, 3 it took too long.",
		Example:       "  brood status jobs\n  brood reload /run/jobs --timeout 5s\n  brood dev ./cmd/jobd",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddGroup(
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupSteer, Title: "Steer:"},
		&cobra.Group{ID: groupDevelop, Title: "Develop:"},
	)
	root.AddCommand(
		newStatus(),
		newTop(),
		newConns(),
		newEvents(),
		newWhy(),
		newDoctor(),
		newWeb(),
		newReload(),
		newUpgrade(),
		newStop(),
		newScale(),
		newDrain(),
		newLogLevel(),
		newReopen(),
		newDev(),
		newCompletion(),
		newMan(),
	)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelp())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return twoDashes(err) })
	markOutcomes(root)
	return root
}

// markOutcomes tells the errors of commands that have run from those of the command line.
func markOutcomes(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return outcome{err}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		markOutcomes(c)
	}
}

// newHelp makes brood help, which unlike the one of the library fails if there is no such command.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "what a command does, and its flags",
		Long:    "Help tells what a command does, which flags it has, and how it is used. brood COMMAND --help does the same.",
		Example: "  brood help reload",

		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return fmt.Errorf("there is no command %q: brood help lists all", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// onDaemon makes what a command does of what it does with the daemon that its first argument names.
func onDaemon(run func(t target, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		t, err := find(args[0])
		if err != nil {
			return err
		}
		return run(t, cmd, args)
	}
}

// oneDaemon wants the name of a daemon and no other argument.
func oneDaemon(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return errors.New("which daemon? its run directory, its name, or a process id of it is missing")
	case 1:
		return nil
	}
	return fmt.Errorf("one daemon at a time, and not %s", strings.Join(args, " "))
}

// daemonAnd wants the name of a daemon and one more argument, or if it is optional at most one more.
func daemonAnd(what string, optional bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return oneDaemon(cmd, args)
		case len(args) == 1 && !optional:
			return fmt.Errorf("%s is missing", what)
		case len(args) > 2:
			return fmt.Errorf("only a daemon and %s, and not %s", what, strings.Join(args, " "))
		}
		return nil
	}
}

// timeoutFlag gives a command that waits its limit.
func timeoutFlag(cmd *cobra.Command, limit time.Duration) *time.Duration {
	return cmd.Flags().Duration("timeout", limit, "how long to wait for the effect")
}

// jsonFlag gives a command that shows something its form for programs.
func jsonFlag(cmd *cobra.Command, usage string) *bool {
	return cmd.Flags().Bool("json", false, usage)
}

// minus is the sign of a negative number where a hyphen would begin a flag.
const minus = "\u2212"

var negativeNumber = regexp.MustCompile(`^-[0-9]+$`)

// negative lets negative numbers pass the parser of flags, for whom -1 is a flag called 1, in the arguments of brood scale.
func negative(args []string) []string {
	out := append([]string{}, args...) // never nil, which would mean those of the process
	if len(out) > 0 && out[0] == "scale" {
		for i, a := range out {
			if negativeNumber.MatchString(a) {
				out[i] = minus + a[1:]
			}
		}
	}
	return out
}

// twoDashes says what is wrong with -timeout: it would be the short flags t, i, m and so on.
func twoDashes(err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && len(unknown.GetSpecifiedShortnames()) > 1 {
		name, _, _ := strings.Cut(unknown.GetSpecifiedShortnames(), "=")
		return fmt.Errorf("unknown flag: -%s; flags with long names have two dashes, --%s", name, name)
	}
	return err
}
