package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
)

func newStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status [flags] " + daemonArg,
		GroupID: groupLook,
		Short:   "what every child is doing",
		Long: "Status shows the daemon and what each of its children is doing. It asks nobody: it reads the scoreboard, which is there\n" +
			"even if every child is busy and the parent hangs, or is dead. In that case the exit status is 1.",
		Example:           "  brood status jobs\n  brood status --json /run/jobs",
		Args:              oneDaemon,
		ValidArgsFunction: completeDaemon,
	}
	asJSON := jsonFlag(cmd, "print JSON")
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		return status(t, *asJSON, cmd.OutOrStdout())
	})
	return cmd
}

// status prints the scoreboard. It asks nobody: the file is there even if every child is busy and the parent hangs.
func status(t target, asJSON bool, out io.Writer) error {
	d, err := view.Look(t.board())
	if err != nil {
		return t.noBoard(err)
	}
	if asJSON {
		if err := printJSON(out, d); err != nil {
			return err
		}
	} else {
		printStatus(d, time.Now(), out)
	}
	if !d.Running {
		return fmt.Errorf("not running: its parent, process %d, is gone", d.PID)
	}
	return nil
}

// printJSON prints what a command has found for programs.
func printJSON(out io.Writer, found any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(found)
}

func printStatus(d *view.Daemon, now time.Time, out io.Writer) {
	p := view.PaletteFor(out)
	width, _ := view.Terminal(out)
	lines := d.Head(now, p)
	if len(d.Children) > 0 {
		table := view.Tabulate(d.Children, now, width)
		lines = append(lines, "", p.Paint(view.Bold, table.Head))
		for i, row := range table.Rows {
			lines = append(lines, p.Paint(table.Colours[i], row))
		}
	}
	fmt.Fprintln(out, strings.Join(lines, "\n"))
}
