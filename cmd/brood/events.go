package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/scoreboard"
)

// eventPoll is how often who follows looks for new events. The file tells nobody that it has changed.
const eventPoll = 100 * time.Millisecond

// stampLayout is how the moment of an event is shown, in local time.
const stampLayout = "2006-01-02 15:04:05.000"

func newEvents() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "events [flags] " + daemonArg,
		GroupID: groupLook,
		Short:   "what the parent has decided, done and seen",
		Long: "Events shows the last decisions of the parent with their reasons: births, exits, kills, clients who have left, reloads,\n" +
			"and what operators have asked for. They stand in the scoreboard, and a parent that was killed has left them behind.",
		Example:           "  brood events -n 20 jobs\n  brood events -f --json jobs",
		Args:              oneDaemon,
		ValidArgsFunction: completeDaemon,
	}
	asJSON := jsonFlag(cmd, "print a line of JSON for each")
	follow := cmd.Flags().BoolP("follow", "f", false, "go on until the daemon ends")
	n := cmd.Flags().UintP("lines", "n", 50, "begin with the last `number` of events")
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		return events(t, *n, *follow, *asJSON, cmd.OutOrStdout())
	})
	return cmd
}

// events prints what the parent has decided, done and seen. It asks nobody: the scoreboard keeps it, also if the parent hangs
// or is dead.
func events(t target, n uint, follow, asJSON bool, out io.Writer) error {
	ring, err := t.ring()
	if err != nil {
		return err
	}
	defer ring.Close()
	show := printEvent
	if asJSON {
		show = encodeEvent
	}
	running := view.Alive(view.Parent(ring.Identity()))
	all, err := ring.Since(0)
	if err != nil {
		return fmt.Errorf("%s: %w", t.board(), err)
	}
	last := uint64(0)
	for i, e := range all {
		if last = e.Seq; uint(len(all)-i) > n {
			continue
		}
		if err := show(e, out); err != nil {
			return err
		}
	}
	if !running {
		return fmt.Errorf("not running: its parent, process %d, is gone", ring.Identity().PID)
	}
	for running && follow {
		time.Sleep(eventPoll)
		running = view.Alive(view.Parent(ring.Identity())) // first: what it has written last is to be shown
		fresh, err := ring.Since(last)
		if err != nil {
			return fmt.Errorf("%s: %w", t.board(), err)
		}
		for _, e := range fresh {
			if missed := e.Seq - last - 1; missed > 0 {
				showMissed(missed, asJSON, out)
			}
			if err := show(e, out); err != nil {
				return err
			}
			last = e.Seq
		}
	}
	return nil
}

// ring opens the events of a daemon.
func (t target) ring() (*scoreboard.Ring, error) {
	r, err := scoreboard.OpenRing(t.board())
	if err != nil {
		return nil, t.noBoard(err)
	}
	return r, nil
}

// printEvent prints one as a line.
func printEvent(e scoreboard.Event, out io.Writer) error {
	_, err := fmt.Fprintln(out, view.EventLine(e, stampLayout, logs.Escape))
	return err
}

// encodeEvent prints one as a line of JSON.
func encodeEvent(e scoreboard.Event, out io.Writer) error { return json.NewEncoder(out).Encode(e) }

// showMissed says how many events were forgotten before they could be shown.
func showMissed(n uint64, asJSON bool, out io.Writer) {
	if asJSON {
		fmt.Fprintf(out, "{\"missed\":%d}\n", n)
		return
	}
	fmt.Fprintf(out, "… %d events missed\n", n)
}
