// Package top is the live view of one daemon, brood top.
//
// Model is pure: what it knows comes in messages, and what it shows depends on nothing else. Reading the scoreboard and sending
// signals are functions that it is given.
package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/scoreboard"
)

// A Look is what there is to see at one moment.
type Look struct {
	At     time.Time
	Daemon *view.Daemon       // nil: Err says why there is nothing to see
	Events []scoreboard.Event // the last ones, oldest first
	Err    error
}

// An Action is what can be done to a child.
type Action int

// The actions.
const (
	Drain Action = iota // it finishes its jobs and is replaced
	Kill                // it ends at once, with its jobs
)

// Options are what a Model needs from outside. Look and Act run on goroutines of their own, never two Looks at the same time.
type Options struct {
	Every time.Duration // how long to wait from one look to the next
	Look  func() Look
	// Act does something to a child if it is still that very one; what it returns is shown.
	Act     func(Action, scoreboard.Child) error
	Palette view.Palette
}

// A Model is the state of the view. Its methods are those of [tea.Model]; the zero value shows nothing, see [New].
type Model struct {
	options       Options
	width, height int

	look Look  // the last one that has seen something
	err  error // of the last one, if it has seen nothing
	rate float64
	// rated is whether there is a rate: it takes two looks at the same daemon.
	rated bool

	order   order
	filter  string
	editing bool // the filter
	help    bool

	chosen  child // the selected row
	cursor  int   // where it was when it was last there
	asked   *question
	message string // of what was done last
}

// A child is one for good: no other has the same three.
type child struct {
	slot, pid int
	born      int64
}

func identify(c *view.Child) child { return child{c.Slot, c.PID, c.Born.UnixNano()} }

// A question has to be answered before anything is done to a child.
type question struct {
	action Action
	child  scoreboard.Child
}

// Messages.
type (
	lookNow struct{}
	looked  Look
	acted   struct {
		question
		err error
	}
)

// New makes the view of a daemon that nobody has looked at yet.
func New(o Options) Model { return Model{options: o} }

// Init begins with a look.
func (m Model) Init() tea.Cmd { return m.lookAgain }

func (m Model) lookAgain() tea.Msg { return looked(m.options.Look()) }

// Update takes what has happened.
func (m Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case lookNow:
		return m, m.lookAgain
	case looked:
		m = m.saw(Look(msg))
		return m, tea.Tick(m.options.Every, func(time.Time) tea.Msg { return lookNow{} })
	case acted:
		m.message = fmt.Sprintf("%s: done", msg.question.what())
		if msg.err != nil {
			m.message = fmt.Sprintf("%s: %v", msg.question.what(), msg.err)
		}
	case tea.KeyPressMsg:
		return m.press(tea.Key(msg))
	}
	return m, nil
}

// saw takes a look.
func (m Model) saw(l Look) Model {
	if m.err = l.Err; l.Daemon == nil {
		return m
	}
	before := m.look
	m.look, m.rate, m.rated = l, 0, false
	if b := before.Daemon; b != nil && b.PID == l.Daemon.PID && b.Start == l.Daemon.Start {
		if took := l.At.Sub(before.At).Seconds(); took > 0 {
			// A child that ends between two reads is counted twice, or not at all for a moment.
			m.rate, m.rated = max(0, float64(jobs(l.Daemon))-float64(jobs(b)))/took, true
		}
	}
	return m.follow()
}

// jobs are those that have been done.
func jobs(d *view.Daemon) uint64 {
	n := d.Done
	for _, c := range d.Children {
		n += c.Done
	}
	return n
}

// follow keeps the selection on its child, or where that was.
func (m Model) follow() Model {
	rows := m.rows()
	if len(rows) == 0 {
		return m
	}
	if i := slices.IndexFunc(rows, func(c view.Child) bool { return identify(&c) == m.chosen }); i >= 0 {
		m.cursor = i
	}
	return m.choose(m.cursor)
}

// choose selects a row, or the nearest that there is.
func (m Model) choose(row int) Model {
	rows := m.rows()
	if len(rows) == 0 {
		m.cursor, m.chosen = 0, child{}
		return m
	}
	m.cursor = min(max(row, 0), len(rows)-1)
	m.chosen = identify(&rows[m.cursor])
	return m
}

// rows are the children that the filter lets pass, in order.
func (m Model) rows() []view.Child {
	if m.look.Daemon == nil {
		return nil
	}
	wanted := strings.ToLower(m.filter)
	var rows []view.Child
	for _, c := range m.look.Daemon.Children {
		text := fmt.Sprintf("%d %d g%d %s %s %s %s %s", c.Slot, c.PID, c.Generation, c.Kind, c.State, c.Client, c.Text, c.Cause)
		if strings.Contains(strings.ToLower(text), wanted) {
			rows = append(rows, c)
		}
	}
	slices.SortStableFunc(rows, func(a, b view.Child) int { return cmp.Or(m.order.compare(&a, &b), cmp.Compare(a.Slot, b.Slot)) })
	return rows
}

// An order is by what rows are sorted.
type order int

const (
	bySlot order = iota
	byState
	bySince
	byJobs
	byMemory

	orders
)

func (o order) String() string { return [orders]string{"slot", "state", "since", "jobs", "memory"}[o] }

// urgency is the order of states: what an operator looks for comes first.
const urgency = "CWRGSP_"

// compare puts first what an operator looks for: the busy, the longest, the most.
func (o order) compare(a, b *view.Child) int {
	switch o {
	case byState:
		return cmp.Compare(strings.IndexByte(urgency, byte(a.State)), strings.IndexByte(urgency, byte(b.State)))
	case bySince:
		return a.Since.Compare(b.Since)
	case byJobs:
		return cmp.Compare(b.Done, a.Done)
	case byMemory:
		return cmp.Compare(b.Memory, a.Memory)
	}
	return 0
}
