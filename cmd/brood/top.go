package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/cmd/brood/internal/top"
	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/scoreboard"
)

// shortestInterval keeps brood top from being the busiest process of a machine.
const shortestInterval = 100 * time.Millisecond

func newTop() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "top [flags] " + daemonArg,
		GroupID: groupLook,
		Short:   "the same as status, live, with the last events; drains or kills a child",
		Long: "Top shows what status shows, again and again, how many jobs are done in a second, and the last events. Keys sort, filter and select;\n" +
			"d drains the selected child, k kills it, ? tells all keys, q quits. It goes on while the parent hangs or is dead.",
		Example:           "  brood top jobs\n  brood top --interval 250ms /run/jobs",
		Args:              oneDaemon,
		ValidArgsFunction: completeDaemon,
	}
	interval := cmd.Flags().Duration("interval", time.Second, "how long to wait from one look to the next, 100ms at least")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *interval < shortestInterval {
			return usageError{fmt.Errorf("an interval of %v: want %v at least", *interval, shortestInterval)}
		}
		t, err := find(args[0])
		if err != nil {
			return err
		}
		_, keys := view.Terminal(os.Stdin)
		_, screen := view.Terminal(cmd.OutOrStdout())
		if !keys || !screen || os.Getenv("TERM") == "dumb" {
			return fmt.Errorf("it takes a terminal, for output like a screen and for keys: brood status %s shows the same once", args[0])
		}
		if first := t.look(); first.Err != nil {
			return first.Err
		}
		return top.Run(top.New(top.Options{Every: *interval, Look: t.look, Act: t.act, Palette: view.PaletteFor(cmd.OutOrStdout())}), os.Stdin, os.Stdout)
	}
	return cmd
}

// look reads what brood top shows. It asks nobody.
func (t target) look() top.Look {
	l := top.Look{At: time.Now()}
	if l.Daemon, l.Err = view.Look(t.board()); l.Err != nil {
		l.Err = t.noBoard(l.Err)
		return l
	}
	if ring, err := scoreboard.OpenRing(t.board()); err == nil { // without events the rest is worth showing
		defer ring.Close()
		l.Events, _ = ring.Since(0)
	}
	return l
}
