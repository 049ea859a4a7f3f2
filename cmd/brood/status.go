package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/scoreboard"
)

func newStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status [flags] " + daemonArg,
		GroupID: groupLook,
		Short:   "what every child is doing",
		Long: "Status shows the daemon and what each of its children is doing. It asks nobody: it reads the scoreboard, which is there\n" +
			"even if every child is busy and the parent hangs, or is dead. In that case the exit status is 1.",
		Example: "  brood status jobs\n  brood status --json /run/jobs",
		Args:    oneDaemon,
	}
	asJSON := jsonFlag(cmd, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := find(args[0])
		if err != nil {
			return err
		}
		return status(t, *asJSON, cmd.OutOrStdout())
	}
	return cmd
}

// status prints the scoreboard. It asks nobody: the file is there even if every child is busy and the parent hangs.
func status(t target, asJSON bool, out io.Writer) error {
	s, err := scoreboard.Read(t.board())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("not running: there is no %s", t.board())
	}
	if err != nil {
		return err
	}
	running := alive(pidfile.Identity{PID: s.PID, Start: s.Start, BootID: s.BootID})
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(struct {
			Running bool `json:"running"`
			*scoreboard.Snapshot
		}{running, s}); err != nil {
			return err
		}
	} else {
		printTable(s, running, time.Now(), out)
	}
	if !running {
		return fmt.Errorf("not running: its parent, process %d, is gone", s.PID)
	}
	return nil
}

func printTable(s *scoreboard.Snapshot, running bool, now time.Time, out io.Writer) {
	state := s.State
	if !running {
		state = "dead"
	}
	fmt.Fprintf(out, "%s: %s, generation %d", logs.Escape(s.Name), logs.Escape(state), s.Generation)
	switch s.Rolling {
	case 0:
	case s.Generation:
		fmt.Fprint(out, " (on probation)")
	default:
		fmt.Fprintf(out, " (%d is coming)", s.Rolling)
	}
	fmt.Fprintf(out, ", pid %d, up %s", s.PID, age(now, s.Created))
	if s.Listen != "" {
		fmt.Fprintf(out, ", listening on %s", logs.Escape(s.Listen))
	}
	fmt.Fprintln(out)
	done, skipped, dequeue := s.Done, s.Skipped, 0
	for _, c := range s.Children {
		done += c.Done
		skipped += c.Skipped
		if c.Kind == scoreboard.Dequeue {
			dequeue++
		}
	}
	fmt.Fprintf(out, "children %d of %d wanted%s, %d born, %d died, %d killed; jobs done %d, clients lost %d%s\n",
		len(s.Children)-dequeue, s.Want, beside(dequeue), s.Born, s.Died, s.Killed, done, s.Lost, andSkipped(skipped))
	if !s.ReloadAt.IsZero() {
		result := "done"
		if !s.ReloadOK {
			result = "FAILED"
		}
		fmt.Fprintf(out, "last reload %s %s ago: %s\n", result, age(now, s.ReloadAt), logs.Escape(firstLine(s.Reload)))
	}
	if s.Trouble != "" && running {
		fmt.Fprintf(out, "degraded: %s\n", logs.Escape(firstLine(s.Trouble)))
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SLOT\tPID\tKIND\tGEN\tSTATE\tSINCE\tDONE\tJOB\tCLIENT\tWHAT\tBORN\tBECAUSE")
	for _, c := range s.Children {
		job, client, what := "-", "-", "-"
		switch {
		case c.Torn:
			what = "unknown: stopped while writing"
		case c.Job != 0:
			job, client, what = fmt.Sprint(c.Job), logs.Escape(c.Client), logs.Escape(c.Text)
		}
		if c.Running > 1 {
			what += fmt.Sprintf(" (and %d more)", c.Running-1)
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%c %s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", c.Slot, c.PID, c.Kind, c.Generation, letter(c.State), c.State,
			age(now, c.Since), c.Done, job, orDash(client), orDash(what), age(now, c.Born), logs.Escape(c.Cause))
	}
	w.Flush()
}

// letter keeps a child that writes nonsense into its state from writing to a terminal.
func letter(s scoreboard.State) rune {
	if s.String() == "unknown" {
		return '?'
	}
	return rune(s)
}

// beside tells of the children that have a queue of their own, if there are any.
func beside(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d dequeue", n)
}

// andSkipped tells of clients that had left before they were accepted, if there were any.
func andSkipped(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", skipped %d", n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func age(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	d := max(now.Sub(then), 0)
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
