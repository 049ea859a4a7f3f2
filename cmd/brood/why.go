package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/scoreboard"
)

func newWhy() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "why [flags] " + daemonArg + " PID|SLOT",
		GroupID: groupLook,
		Short:   "the story of one child: why it was born, what happened to it, why it ended",
		Long: "Why tells the story of one child, alive or dead, by its process id or its slot: why it was started, what happened to it,\n" +
			"and the cause of its end. A process id that was another child's before means the last one that had it.",
		Example:           "  brood why jobs 4720\n  brood why --json /run/jobs 0",
		Args:              daemonAnd("the process id or the slot of a child", true),
		ValidArgsFunction: completeChild,
	}
	asJSON := jsonFlag(cmd, "print JSON")
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		return why(t, args, *asJSON, cmd.OutOrStdout())
	})
	return cmd
}

// A story is what is known of one child.
type story struct {
	pid     int
	events  []scoreboard.Event // of this life of the process id, oldest first
	now     *scoreboard.Child  // nil: it is not on the board
	parent  int
	running bool // the parent is
}

// why tells the story of one child: why it was born, what happened to it, and why it ended.
func why(t target, args []string, asJSON bool, out io.Writer) error {
	ring, err := t.ring()
	if err != nil {
		return err
	}
	defer ring.Close()
	all, err := ring.Since(0)
	if err != nil {
		return fmt.Errorf("%s: %w", t.board(), err)
	}
	which := args[len(args)-1] // the process id of a child names its daemon, too
	n, err := strconv.Atoi(which)
	switch {
	case err != nil && len(args) == 1:
		return fmt.Errorf("which child of it? brood why %s PID, or SLOT", which)
	case err != nil || n < 0:
		return fmt.Errorf("%q is neither a process id nor a slot", which)
	case n == ring.Identity().PID:
		return fmt.Errorf("process %d is the parent: brood events tells what it did", n)
	}
	board, err := scoreboard.Read(t.board())
	if err != nil {
		board = &scoreboard.Snapshot{} // the daemon has just ended; the events are there
	}
	s := storyOf(n, all, board.Children)
	if s == nil {
		return fmt.Errorf("nothing is known of a child %d: it is neither a process id nor a slot that the last %d events or the scoreboard name",
			n, scoreboard.Events)
	}
	s.parent, s.running = ring.Identity().PID, view.Alive(view.Parent(ring.Identity()))
	if asJSON {
		return s.encode(out)
	}
	s.tell(out)
	return nil
}

// storyOf finds a child by its process id or else by its slot: then it is the last one in it. nil: there is none.
func storyOf(n int, all []scoreboard.Event, children []scoreboard.Child) *story {
	onBoard := func(match func(scoreboard.Child) bool) *scoreboard.Child {
		if i := slices.IndexFunc(children, match); i >= 0 {
			return &children[i]
		}
		return nil
	}
	s := &story{pid: n}
	s.now = onBoard(func(c scoreboard.Child) bool { return c.PID == n && n > 0 })
	ofPID := func(e scoreboard.Event) bool { return e.Slot >= 0 && e.PID == s.pid && s.pid > 0 }
	if s.now == nil && !slices.ContainsFunc(all, ofPID) {
		s.pid = 0
		if s.now = onBoard(func(c scoreboard.Child) bool { return c.Slot == n }); s.now != nil {
			s.pid = s.now.PID
		} else {
			for _, e := range all {
				if e.Slot == n && e.PID > 0 {
					s.pid = e.PID
				}
			}
		}
	}
	if s.pid == 0 {
		return nil
	}
	for _, e := range all {
		if !ofPID(e) {
			continue
		}
		if e.Kind == scoreboard.EventSpawn { // who had this process id before was another child
			s.events = nil
		}
		s.events = append(s.events, e)
	}
	return s
}

// ends reports whether nothing comes after such an event.
func ends(k scoreboard.EventKind) bool {
	return k == scoreboard.EventExit || k == scoreboard.EventDied
}

// tell prints the story, one sentence a line.
func (s *story) tell(out io.Writer) {
	slot, generation := 0, uint64(0)
	switch {
	case len(s.events) > 0:
		slot, generation = s.events[0].Slot, s.events[0].Generation
	case s.now != nil:
		slot, generation = s.now.Slot, s.now.Generation
	}
	fmt.Fprintf(out, "Child %d, slot %d, generation %d.\n", s.pid, slot, generation)
	line := func(at time.Time, format string, args ...any) {
		fmt.Fprintf(out, "%s  %s\n", at.Format(stampLayout), logs.Escape(fmt.Sprintf(format, args...)))
	}
	var born time.Time
	switch {
	case len(s.events) > 0 && s.events[0].Kind == scoreboard.EventSpawn:
		born = s.events[0].Time
	case s.now != nil:
		born = s.now.Born
		line(born, "It was started%s (says the scoreboard; the events have forgotten it).", because(s.now.Cause))
	default:
		fmt.Fprintf(out, "%*s  How it began has been forgotten.\n", len(stampLayout), "…")
	}
	for _, e := range s.events {
		line(e.Time, "%s", sentence(e, born))
	}
	fmt.Fprintln(out, logs.Escape(s.outcome()))
}

// outcome says how the story ends.
func (s *story) outcome() string {
	var kill, drain, end *scoreboard.Event
	for i, e := range s.events {
		switch e.Kind {
		case scoreboard.EventKill:
			kill = &s.events[i]
		case scoreboard.EventDrain, scoreboard.EventEvict:
			drain = &s.events[i]
		}
		if ends(e.Kind) || e.Kind == scoreboard.EventFailed {
			end = &s.events[i]
		}
	}
	switch c := s.now; {
	case end != nil:
		return postMortem(end, kill, drain)
	case !s.running:
		return fmt.Sprintf("Its parent, process %d, is gone: nobody has seen what became of it.", s.parent)
	case c == nil:
		return "It is not on the scoreboard any more: it has just ended."
	case c.Job != 0:
		return fmt.Sprintf("It is %s; job %d began %s ago%s. It has done %s.",
			c.State, c.Job, view.Age(time.Now(), c.Started), because(c.Text), jobs(c.Done))
	default:
		return fmt.Sprintf("It is %s. It has done %s.", c.State, jobs(c.Done))
	}
}

// encode prints the story for programs: what is known of the child, and the last sentence.
func (s *story) encode(out io.Writer) error {
	return printJSON(out, struct {
		PID     int                `json:"pid"`
		Running bool               `json:"running"` // the parent is
		Child   *scoreboard.Child  `json:"child,omitzero"`
		Events  []scoreboard.Event `json:"events"`
		Outcome string             `json:"outcome"`
	}{s.pid, s.running, s.now, append([]scoreboard.Event{}, s.events...), s.outcome()})
}

// sentence says what happened to a child.
func sentence(e scoreboard.Event, born time.Time) string {
	switch e.Kind {
	case scoreboard.EventSpawn:
		return "It was started" + because(e.Text) + "."
	case scoreboard.EventReady:
		if after := e.Time.Sub(born); !born.IsZero() && after >= 0 {
			return fmt.Sprintf("It was ready, after %v.", after.Round(time.Millisecond))
		}
		return "It was ready."
	case scoreboard.EventGone:
		return fmt.Sprintf("The client of its job %d had left%s.", e.Job, because(e.Text))
	case scoreboard.EventOvertime:
		return fmt.Sprintf("The time of its job %d was over.", e.Job)
	case scoreboard.EventRevoke:
		return fmt.Sprintf("Its job %d was to end, and it with the job%s.", e.Job, because(e.Text))
	case scoreboard.EventDrain:
		return "It was asked to finish and leave" + because(e.Text) + "."
	case scoreboard.EventEvict:
		return "Its jobs were told to end" + because(e.Text) + "."
	case scoreboard.EventKill:
		return "It was to be killed" + because(e.Text) + "."
	case scoreboard.EventExit, scoreboard.EventDied:
		return fmt.Sprintf("It ended%s. It had done %s.", because(e.Text), jobs(e.Done))
	case scoreboard.EventFailed:
		return "It did not come up" + because(e.Text) + "."
	}
	return fmt.Sprintf("%s%s.", e.Kind, because(e.Text))
}

// postMortem says what a child has died of.
func postMortem(end, kill, drain *scoreboard.Event) string {
	switch {
	case end.Kind == scoreboard.EventFailed:
		return "Cause of its end: it did not come up" + because(end.Text) + "."
	case kill != nil:
		return "Cause of its end: its parent killed it" + because(kill.Text) + "."
	case end.Kind == scoreboard.EventDied:
		return "Cause of its end: nobody had asked it to end" + because(end.Text) + "."
	case drain != nil:
		return "Cause of its end: it left as it was asked to" + because(drain.Text) + "."
	}
	return "Cause of its end: its work was done" + because(end.Text) + "."
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func jobs(n uint64) string {
	if n == 1 {
		return "1 job"
	}
	return fmt.Sprintf("%d jobs", n)
}
