package top

import (
	"fmt"

	tea "charm.land/bubbletea/v2"
)

// press takes a key. Ctrl-C always quits.
func (m Model) press(k tea.Key) (tea.Model, tea.Cmd) {
	switch stroke := k.String(); {
	case stroke == "ctrl+c":
		return m, tea.Quit
	case stroke == "ctrl+z":
		return m, tea.Suspend
	case m.asked != nil:
		return m.answer(stroke)
	case m.editing:
		return m.edit(stroke, k.Text), nil
	case m.help:
		m.help = false
		return m, nil
	default:
		return m.command(stroke)
	}
}

// command does what a key means.
func (m Model) command(stroke string) (tea.Model, tea.Cmd) {
	m.message = ""
	switch stroke {
	case "q", "esc":
		if stroke == "esc" && m.filter != "" {
			m.filter = ""
			return m.follow(), nil
		}
		return m, tea.Quit
	case "?", "h":
		m.help = true
	case "s":
		m.order = (m.order + 1) % orders
		return m.follow(), nil
	case "/":
		m.editing = true
	case "up":
		return m.choose(m.cursor - 1), nil
	case "down":
		return m.choose(m.cursor + 1), nil
	case "pgup":
		return m.choose(m.cursor - m.room()), nil
	case "pgdown":
		return m.choose(m.cursor + m.room()), nil
	case "home":
		return m.choose(0), nil
	case "end":
		return m.choose(len(m.rows()) - 1), nil
	case "d":
		return m.ask(Drain), nil
	case "k":
		return m.ask(Kill), nil
	}
	return m, nil
}

// edit changes the filter, which works while it is typed.
func (m Model) edit(stroke, text string) Model {
	switch runes := []rune(m.filter); {
	case stroke == "enter":
		m.editing = false
	case stroke == "esc":
		m.editing, m.filter = false, ""
	case stroke == "backspace" && len(runes) > 0:
		m.filter = string(runes[:len(runes)-1])
	case len(m.filter)+len(text) <= 64:
		m.filter += text
	}
	return m.follow()
}

// ask asks whether the selected child is meant. The answer is about this child, whatever is selected by then.
func (m Model) ask(a Action) Model {
	rows := m.rows()
	if m.cursor >= len(rows) || identify(&rows[m.cursor]) != m.chosen {
		m.message = "no child is selected"
		return m
	}
	m.asked = &question{a, rows[m.cursor].Child}
	return m
}

// answer does it if the answer is yes.
func (m Model) answer(stroke string) (tea.Model, tea.Cmd) {
	q := *m.asked
	m.asked = nil
	if stroke != "y" {
		m.message = "nothing is done"
		return m, nil
	}
	act := m.options.Act
	return m, func() tea.Msg { return acted{q, act(q.action, q.child)} }
}

// what is what would be done, or has been.
func (q question) what() string {
	verb := "drain"
	if q.action == Kill {
		verb = "kill"
	}
	return fmt.Sprintf("%s child %d, slot %d", verb, q.child.PID, q.child.Slot)
}

// String is the question.
func (q question) String() string {
	after := "it finishes its jobs and is replaced"
	switch {
	case q.action == Kill && q.child.Job != 0:
		after = fmt.Sprintf("its job %d ends with it", q.child.Job)
	case q.action == Kill:
		after = "it is replaced"
	}
	return fmt.Sprintf("%s: %s. Sure? (y/n)", q.what(), after)
}
