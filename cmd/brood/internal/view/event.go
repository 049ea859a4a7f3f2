package view

import (
	"fmt"
	"strings"

	"github.com/brooddaemon/brood/scoreboard"
)

// EventLine shows an event as a line: when, what, who, and why. Layout is that of the time, escape makes the text of strangers
// safe to show.
func EventLine(e scoreboard.Event, layout string, escape func(string) string) string {
	var who []string
	if e.Slot >= 0 {
		who = append(who, fmt.Sprintf("slot=%d", e.Slot))
	}
	if e.Operator != nil {
		who = append(who, fmt.Sprintf("uid=%d pid=%d", e.Operator.UID, e.Operator.PID))
	}
	for _, f := range []struct {
		name  string
		value uint64
	}{{"pid", uint64(e.PID)}, {"gen", e.Generation}, {"job", e.Job}, {"done", e.Done}} {
		if f.value != 0 {
			who = append(who, fmt.Sprintf("%s=%d", f.name, f.value))
		}
	}
	parts := []string{e.Time.Format(layout), fmt.Sprintf("%-14s", e.Kind)}
	if len(who) > 0 {
		parts = append(parts, strings.Join(who, " "))
	}
	if e.Text != "" {
		parts = append(parts, escape(e.Text))
	}
	return strings.TrimRight(strings.Join(parts, "  "), " ")
}
