package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/scoreboard"
)

// head is what a page shows of the daemon as a whole. Texts in it and in what follows are escaped; times are milliseconds since
// 1970, 0 for never.
type head struct {
	Condition  condition `json:"condition"`
	Problem    string    `json:"problem,omitzero"`
	Trouble    string    `json:"trouble,omitzero"` // it is degraded
	State      string    `json:"state"`
	Generation uint64    `json:"generation"`
	Rolling    uint64    `json:"rolling,omitzero"`
	Facts      []fact    `json:"facts"`
}

// A fact is a line of the head. In its text the first {age} stands for the time that has passed since At.
type fact struct {
	Name string `json:"name"`
	Text string `json:"text"`
	At   int64  `json:"at,omitzero"`
}

// A child is what a page shows of one.
type child struct {
	Slot       int    `json:"slot"`
	PID        int    `json:"pid"`
	Kind       string `json:"kind"`
	Generation uint64 `json:"generation"`
	State      string `json:"state"`
	Letter     string `json:"letter"`
	Since      int64  `json:"since"`
	Born       int64  `json:"born"`
	Cause      string `json:"cause"`
	Done       uint64 `json:"done"`
	Running    uint64 `json:"running"`
	Skipped    uint64 `json:"skipped,omitzero"`
	Refused    uint64 `json:"refused,omitzero"`
	Revoked    uint64 `json:"revoked,omitzero"`
	Job        uint64 `json:"job,omitzero"`
	Started    int64  `json:"started,omitzero"`
	Deadline   int64  `json:"deadline,omitzero"`
	Client     string `json:"client,omitzero"`
	Text       string `json:"text,omitzero"`
	Torn       bool   `json:"torn,omitzero"`
	Ended      bool   `json:"ended,omitzero"`  // there is no such process any more
	Memory     uint64 `json:"memory,omitzero"` // MiB
}

// An event is what a page shows of one.
type event struct {
	Seq        uint64 `json:"seq"`
	Time       int64  `json:"t"`
	Kind       string `json:"kind"`
	Slot       int    `json:"slot"`
	PID        int    `json:"pid,omitzero"`
	Generation uint64 `json:"generation,omitzero"`
	Job        uint64 `json:"job,omitzero"`
	Operator   string `json:"operator,omitzero"`
	Text       string `json:"text,omitzero"`
}

// Who is the event's subject, in words.
func (e event) Who() string {
	var who []string
	for _, f := range []struct {
		name  string
		value uint64
	}{{"slot", uint64(e.Slot + 1)}, {"pid", uint64(e.PID)}, {"generation", e.Generation}, {"job", e.Job}} {
		switch {
		case f.value == 0:
		case f.name == "slot":
			who = append(who, fmt.Sprintf("slot %d", e.Slot))
		default:
			who = append(who, fmt.Sprintf("%s %d", f.name, f.value))
		}
	}
	if e.Operator != "" {
		who = append(who, e.Operator)
	}
	return strings.Join(who, ", ")
}

func show(e scoreboard.Event) event {
	v := event{Seq: e.Seq, Time: millis(e.Time), Kind: e.Kind.String(), Slot: e.Slot, PID: e.PID, Generation: e.Generation, Job: e.Job,
		Text: logs.Escape(e.Text)}
	if e.Operator != nil {
		v.Operator = fmt.Sprintf("by user %d, process %d", e.Operator.UID, e.Operator.PID)
	}
	return v
}

// head describes the daemon as brood status does.
func (w *watcher) head() head {
	h := head{Condition: w.condition, Problem: w.problem, State: string(w.condition)}
	s := w.board
	if s == nil {
		return h
	}
	h.Generation, h.Rolling = s.Generation, s.Rolling
	if w.running() {
		h.State, h.Trouble = logs.Escape(s.State), logs.Escape(view.FirstLine(s.Trouble))
	}
	generation := fmt.Sprint(s.Generation)
	switch s.Rolling {
	case 0:
	case s.Generation:
		generation += " (on probation)"
	default:
		generation += fmt.Sprintf(" (%d is coming)", s.Rolling)
	}
	dequeue := 0
	for _, c := range s.Children {
		if c.Kind == scoreboard.Dequeue {
			dequeue++
		}
	}
	children := fmt.Sprintf("%d of %d wanted", len(s.Children)-dequeue, s.Want)
	if dequeue > 0 {
		children += fmt.Sprintf(" and %d dequeue", dequeue)
	}
	up := "%d, up {age}"
	if !w.running() {
		up = "%d, started {age} ago"
	}
	c := w.counters
	clients := fmt.Sprintf("%d lost", c.lost)
	if c.skipped > 0 {
		clients += fmt.Sprintf(", %d skipped", c.skipped)
	}
	if c.refused > 0 {
		clients += fmt.Sprintf(", %d refused", c.refused)
	}
	h.Facts = []fact{
		{"generation", generation, 0},
		{"process", fmt.Sprintf(up, s.PID), millis(s.Created)},
		{"listening on", view.OrDash(logs.Escape(s.Listen)), 0},
		{"children", fmt.Sprintf("%s; %d born, %d died, %d killed", children, c.born, c.died, c.killed), 0},
		{"jobs done", fmt.Sprint(c.done), 0},
		{"clients", clients, 0},
	}
	if !s.ReloadAt.IsZero() {
		result := "done"
		if !s.ReloadOK {
			result = "FAILED"
		}
		h.Facts = append(h.Facts, fact{"last reload", fmt.Sprintf("%s {age} ago: %s", result, logs.Escape(view.FirstLine(s.Reload))), millis(s.ReloadAt)})
	}
	h.Facts = append(h.Facts, fact{"memory", fmt.Sprintf("%d MiB resident", w.resident>>20), 0},
		fact{"program", logs.Escape(s.Program), 0}, fact{"log", logs.Escape(s.ErrorLog), 0})
	return h
}

// child describes one; was is what was shown of its slot before.
func (w *watcher) child(c scoreboard.Child, was child, now time.Time) child {
	v := child{
		Slot: c.Slot, PID: c.PID, Kind: c.Kind.String(), Generation: c.Generation, State: c.State.String(), Letter: "?",
		Since: millis(c.Since), Born: millis(c.Born), Cause: logs.Escape(c.Cause), Done: c.Done, Running: c.Running, Skipped: c.Skipped,
		Refused: c.Refused, Revoked: c.Revoked, Job: c.Job, Started: millis(c.Started), Client: logs.Escape(c.Client), Text: logs.Escape(c.Text), Torn: c.Torn,
		Memory: w.memory[c.PID] >> 20,
	}
	if v.State != "unknown" { // a child may write any byte
		v.Letter = string(rune(c.State))
	}
	_, v.Ended = w.ended[c.PID]
	if c.Left != 0 {
		// It is computed from two clocks: what is nearly the same is the same.
		v.Deadline = millis(now.Add(c.Left))
		if d := v.Deadline - was.Deadline; was.Job == v.Job && was.PID == v.PID && -1000 < d && d < 1000 {
			v.Deadline = was.Deadline
		}
	}
	return v
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
