package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// Head says in a few lines how the daemon as a whole is.
func (d *Daemon) Head(now time.Time, p Palette) []string {
	lines := []string{d.first(now, p)}
	add := func(c Colour, format string, args ...any) {
		lines = append(lines, p.Paint(c, fmt.Sprintf(format, args...)))
	}
	if d.Stopped {
		add(Yellow, "the parent, process %d, is stopped and decides nothing: kill -CONT %d wakes it", d.PID, d.PID)
	}
	if g := d.generations(); len(g) > 1 {
		add(None, "%s", strings.Join(g, "; "))
	}
	done, skipped, refused, dequeue := d.Done, d.Skipped, d.Refused, 0
	for _, c := range d.Children {
		done += c.Done
		skipped += c.Skipped
		refused += c.Refused
		if c.Kind == scoreboard.Dequeue {
			dequeue++
		}
	}
	add(None, "children %d of %d wanted%s, %d born, %d died, %d killed; jobs done %d, clients lost %d%s%s",
		len(d.Children)-dequeue, d.Want, beside(dequeue), d.Born, d.Died, d.Killed, done, d.Lost, and("skipped", skipped), and("refused", refused))
	if s := d.States(); s != "" {
		add(None, "pool: %s", s)
	}
	if !d.ReloadAt.IsZero() {
		result, colour := "done", None
		if !d.ReloadOK {
			result, colour = "FAILED", Red
		}
		add(colour, "last reload %s %s ago: %s", result, Age(now, d.ReloadAt), Safe(d.Reload))
	}
	if d.Trouble != "" && d.Running {
		add(Red, "degraded: %s", Safe(d.Trouble))
	}
	return lines
}

// first is the line that says who the daemon is.
func (d *Daemon) first(now time.Time, p Palette) string {
	state, colour := d.State, Green
	switch {
	case !d.Running:
		state, colour = "dead", Red
	case state == "degraded":
		colour = Red
	case state != "serving":
		colour = Yellow
	}
	s := fmt.Sprintf("%s: %s, generation %d", p.Paint(Bold, Safe(d.Name)), p.Paint(colour, Safe(state)), d.Generation)
	switch d.Rolling {
	case 0:
	case d.Generation:
		s += " (on probation)"
	default:
		s += fmt.Sprintf(" (%d is coming)", d.Rolling)
	}
	s += fmt.Sprintf(", pid %d, up %s", d.PID, Age(now, d.Created))
	if d.Listen != "" {
		s += ", listening on " + Safe(d.Listen)
	}
	return s
}

// generations counts the children of each, the newest first, and which of them drain.
func (d *Daemon) generations() []string {
	type count struct{ all, draining int }
	counts := map[uint64]count{}
	var numbers []uint64
	for _, c := range d.Children {
		n, ok := counts[c.Generation]
		if !ok {
			numbers = append(numbers, c.Generation)
		}
		n.all++
		if c.State == scoreboard.Draining {
			n.draining++
		}
		counts[c.Generation] = n
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	var all []string
	for _, g := range numbers {
		n := counts[g]
		s := fmt.Sprintf("generation %d: %d %s", g, n.all, plural(n.all, "child", "children"))
		if n.draining > 0 {
			s += fmt.Sprintf(", %d draining", n.draining)
		}
		all = append(all, s)
	}
	return all
}

// States counts the children in each state, such as "2 idle, 1 working".
func (d *Daemon) States() string {
	order := []scoreboard.State{scoreboard.Starting, scoreboard.Idle, scoreboard.Reading, scoreboard.Working, scoreboard.Cancelling,
		scoreboard.Paused, scoreboard.Draining}
	counts := map[string]int{}
	for _, c := range d.Children {
		counts[c.State.String()]++
	}
	var all []string
	for _, s := range order {
		if n := counts[s.String()]; n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, s))
		}
	}
	if n := counts["unknown"] + counts["empty"]; n > 0 {
		all = append(all, fmt.Sprintf("%d unknown", n))
	}
	return strings.Join(all, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// beside tells of the children that have a queue of their own, if there are any.
func beside(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d dequeue", n)
}

// and tells what has become of so many more clients, if there were any.
func and(what string, n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %s %d", what, n)
}
