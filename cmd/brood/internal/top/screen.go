package top

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
)

const (
	// mostEvents is how many of the last events are shown if there is room.
	mostEvents = 5
	// fewestRows is how many children are shown before there is any event.
	fewestRows = 4

	clock   = "15:04:05"
	inverse = "\x1b[7m"
	plain   = "\x1b[0m"
	marker  = "> " // before the selected row
	margin  = "  " // before the others
	keys    = "q quit  ? help  s sort  / filter  ↑↓ select  d drain  k kill"
)

var helpText = []string{
	"up, down, page up, page down, home, end   select a child",
	"s       sort by slot, state, since, jobs, memory",
	"/       show only children of which something contains a text; Enter keeps it, Esc drops it",
	"d       drain the selected child: it finishes its jobs and is replaced",
	"k       kill the selected child, with its jobs",
	"?       this help",
	"q, Esc  quit; Ctrl-Z: for a while",
	"",
	"A child is red when its jobs are to end, yellow when it takes no more of them, green when it works.",
}

// View draws the screen.
func (m Model) View() tea.View {
	v := tea.NewView(strings.Join(m.lines(), "\n"))
	v.AltScreen = true
	return v
}

// lines are as many as the terminal has, none of them wider than it is. The last one is for talking.
func (m Model) lines() []string {
	if m.width < 1 || m.height < 1 {
		return nil
	}
	above, rest := m.above(), m.height-1
	var middle []string
	switch {
	case m.help:
		middle = append([]string{""}, helpText...)
	case m.look.Daemon != nil:
		middle = m.table(rest - len(above))
	}
	lines := append(above, middle...)
	lines = lines[:min(len(lines), rest)]
	for len(lines) < rest {
		lines = append(lines, "")
	}
	lines = append(lines, m.below())
	for i := range lines {
		lines[i] = view.Cut(lines[i], m.width)
	}
	return lines
}

// above is the head: the daemon, the pool, and how it is shown. On a low screen children are worth more than the pool.
func (m Model) above() []string {
	p, d := m.options.Palette, m.look.Daemon
	if d == nil && m.err != nil {
		return []string{p.Paint(view.Red, view.Safe(m.err.Error()))}
	}
	if d == nil {
		return []string{"looking …"}
	}
	shown := *d
	shown.Running = d.Running && m.err == nil
	lines := shown.Head(m.look.At, p)
	var tail []string
	switch {
	case m.err != nil:
		tail = append(tail, p.Paint(view.Red, "nothing new can be seen: "+view.Safe(m.err.Error())))
	case !d.Running:
		tail = append(tail, p.Paint(view.Red, fmt.Sprintf("the parent, process %d, is dead; children that have work finish it", d.PID)))
	}
	how := "- jobs/s"
	if m.rated && m.err == nil {
		how = fmt.Sprintf("%.1f jobs/s", m.rate)
	}
	how += ", sorted by " + m.order.String()
	if m.filter != "" {
		how += fmt.Sprintf(", %d of %d children contain \"%s\"", len(m.rows()), len(d.Children), view.Safe(m.filter))
	}
	tail = append(tail, how)
	if m.height-1-len(lines)-len(tail)-2 < fewestRows {
		lines = lines[:1]
	}
	return append(lines, tail...)
}

// table is what stands between head and last line, in so many lines: children, and events if there is room.
func (m Model) table(room int) []string {
	rows := m.rows()
	events := m.events(room)
	room = max(0, room-len(events)-2) // a blank line and the titles
	first := 0
	if m.cursor >= room {
		first = m.cursor - room + 1
	}
	t := view.Tabulate(rows, m.look.At, max(m.width-len(margin), 1))
	lines := []string{"", m.options.Palette.Paint(view.Bold, margin+t.Head)}
	for i := first; i < min(len(rows), first+room); i++ {
		if i == m.cursor && identify(&rows[i]) == m.chosen {
			lines = append(lines, inverse+marker+t.Rows[i]+plain)
		} else {
			lines = append(lines, m.options.Palette.Paint(t.Colours[i], margin+t.Rows[i]))
		}
	}
	for len(lines) < room+2 {
		lines = append(lines, "")
	}
	return append(lines, events...)
}

// room is how many children are shown at once.
func (m Model) room() int {
	room := m.height - 1 - len(m.above())
	return max(1, room-len(m.events(room))-2)
}

// events are the last ones, with a blank line before them.
func (m Model) events(room int) []string {
	n := min(mostEvents, len(m.look.Events), room-fewestRows-3)
	if n <= 0 {
		return nil
	}
	lines := []string{""}
	for _, e := range m.look.Events[len(m.look.Events)-n:] {
		lines = append(lines, view.EventLine(e, clock, view.Safe))
	}
	return lines
}

// below is the last line: a question, the filter while it is typed, what was done, or what can be.
func (m Model) below() string {
	p := m.options.Palette
	switch {
	case m.asked != nil:
		return p.Paint(view.Bold, m.asked.String())
	case m.editing:
		return "/" + view.Safe(m.filter) + "▏"
	case m.help:
		return "any key goes back"
	case m.message != "":
		return p.Paint(view.Bold, view.Safe(m.message))
	}
	return keys
}
