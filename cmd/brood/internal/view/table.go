package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// A column is one fact of each child. Those with text may be cut when the terminal is too narrow, down to shortest columns.
type column struct {
	title string
	text  bool
	value func(c *Child, now time.Time) string
}

const shortest = 7

var columns = []column{
	{"SLOT", false, func(c *Child, _ time.Time) string { return fmt.Sprint(c.Slot) }},
	{"PID", false, func(c *Child, _ time.Time) string { return fmt.Sprint(c.PID) }},
	{kindTitle, false, func(c *Child, _ time.Time) string { return c.Kind.String() }},
	{"GEN", false, func(c *Child, _ time.Time) string { return fmt.Sprint(c.Generation) }},
	{"STATE", false, func(c *Child, _ time.Time) string { return fmt.Sprintf("%c %s", letter(c.State), c.State) }},
	{"JOB", false, func(c *Child, _ time.Time) string {
		if c.Job == 0 {
			return "-"
		}
		return fmt.Sprint(c.Job)
	}},
	{"CLIENT", true, func(c *Child, _ time.Time) string { return OrDash(Safe(c.Client)) }},
	{"WHAT", true, what},
	{"SINCE", false, func(c *Child, now time.Time) string { return Age(now, c.Since) }},
	{"LEFT", false, left},
	{"DONE", false, func(c *Child, _ time.Time) string { return fmt.Sprint(c.Done) }},
	{"MEMORY", false, func(c *Child, _ time.Time) string { return Bytes(c.Memory) }},
	{"BORN", false, func(c *Child, now time.Time) string { return Age(now, c.Born) }},
	{"BECAUSE", true, func(c *Child, _ time.Time) string { return OrDash(Safe(c.Cause)) }},
}

// kindTitle is of a column that is shown if there is another kind than serve.
const kindTitle = "KIND"

// what is what a child works on.
func what(c *Child, _ time.Time) string {
	s := "-"
	switch {
	case c.Torn:
		s = "unknown: stopped while writing"
	case c.Job != 0:
		s = OrDash(Safe(c.Text))
	}
	if c.Running > 1 {
		s += fmt.Sprintf(" (and %d more)", c.Running-1)
	}
	return s
}

// left is how much time the job of a child has.
func left(c *Child, _ time.Time) string {
	switch {
	case c.Job == 0 || c.Left == 0:
		return "-"
	case c.Left < 0:
		return "over"
	}
	return Span(c.Left)
}

// letter keeps a child that writes nonsense into its state from writing to a terminal.
func letter(s scoreboard.State) rune {
	if s.String() == "unknown" {
		return '?'
	}
	return rune(s)
}

// A Table is a table of children as lines.
type Table struct {
	Head    string
	Rows    []string // as many as there are children
	Colours []Colour // of the rows
}

// Tabulate makes a table. Width is that of the terminal: what has text is cut until a line fits, and then the line; 0: nothing
// is cut.
func Tabulate(children []Child, now time.Time, width int) Table {
	kinds := false
	for i := range children {
		kinds = kinds || children[i].Kind != scoreboard.Serve
	}
	var shown []column
	for _, col := range columns {
		if col.title != kindTitle || kinds {
			shown = append(shown, col)
		}
	}
	cells, widths := make([][]string, len(children)), make([]int, len(shown))
	for i, col := range shown {
		widths[i] = len(col.title)
	}
	for n := range children {
		cells[n] = make([]string, len(shown))
		for i, col := range shown {
			cells[n][i] = col.value(&children[n], now)
			widths[i] = max(widths[i], Width(cells[n][i]))
		}
	}
	fit(shown, widths, width)
	line := func(cell func(i int) string) string {
		var b strings.Builder
		for i := range shown {
			s := Cut(cell(i), widths[i])
			if i < len(shown)-1 {
				s = pad(s, widths[i]+gap)
			}
			b.WriteString(s)
		}
		if s := b.String(); width > 0 {
			return Cut(s, width)
		}
		return b.String()
	}
	t := Table{Head: line(func(i int) string { return shown[i].title })}
	for n := range children {
		t.Rows = append(t.Rows, line(func(i int) string { return cells[n][i] }))
		t.Colours = append(t.Colours, colourOf(&children[n]))
	}
	return t
}

// gap stands between columns.
const gap = 2

// fit makes columns of text narrower, always the widest one, until a line is not wider than width.
func fit(shown []column, widths []int, width int) {
	total := gap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; width > 0 && total > width; total-- {
		widest := -1
		for i, col := range shown {
			if col.text && widths[i] > shortest && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}
