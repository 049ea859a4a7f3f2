package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/logs"
)

func newLogLevel() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "log-level [flags] " + daemonArg + " [" + strings.Join(control.Levels, "|") + "]",
		GroupID: groupSteer,
		Short:   "set from which level on the log gets what the parent says, or show it",
		Long: "Log-level moves the level of a daemon's log while it runs, over upgrades and until it stops; without a level it shows the one\n" +
			"that is set. What children print is in the log at any level, and brood events does not depend on it.",
		Example: "  brood log-level jobs debug\n  brood log-level jobs",
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := daemonAnd("a level", true)(cmd, args); err != nil {
			return err
		}
		if len(args) > 1 && !slices.Contains(control.Levels, args[1]) {
			return fmt.Errorf("%q is no level: want %s", args[1], strings.Join(control.Levels, ", "))
		}
		return nil
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return control.Levels, cobra.ShellCompDirectiveNoFileComp
		}
		return completeDaemon(cmd, args, typed)
	}
	timeout := timeoutFlag(cmd, 10*time.Second)
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		r := control.Request{Verb: control.VerbLogLevel}
		if len(args) > 1 {
			r.Level = args[1]
		}
		reply, err := t.call(r, time.Now().Add(*timeout), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), logs.Escape(reply.Text))
		return err
	})
	return cmd
}
