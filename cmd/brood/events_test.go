package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// What strangers have sent is shown as text: it neither moves the cursor nor begins a line of its own.
func TestHostileText(t *testing.T) {
	evil := "GET /\x1b[2J\n2026-01-01 00:00:00.000  kill  slot=0\r\u202e\xff"
	at := time.Now()
	events := []scoreboard.Event{}
	for kind := range scoreboard.EventKind(40) {
		events = append(events, scoreboard.Event{Seq: uint64(kind) + 1, Time: at, Kind: kind, PID: 77, Slot: 3, Job: 9, Text: evil,
			Operator: &scoreboard.Operator{}})
	}
	child := &scoreboard.Child{PID: 77, Slot: 3, Job: 9, State: scoreboard.State(0x1b), Cause: evil, Text: evil}
	for name, print := range map[string]func(*bytes.Buffer) int{
		"events": func(b *bytes.Buffer) int {
			for _, e := range events {
				printEvent(e, b)
			}
			return len(events)
		},
		"json": func(b *bytes.Buffer) int {
			for _, e := range events {
				encodeEvent(e, b)
			}
			return len(events)
		},
		"why": func(b *bytes.Buffer) int {
			(&story{pid: 77, events: events}).tell(b)
			return len(events) + 3
		},
		"why of one that lives": func(b *bytes.Buffer) int {
			(&story{pid: 77, now: child, running: true}).tell(b)
			return 3
		},
	} {
		var b bytes.Buffer
		lines := print(&b)
		if out := b.String(); strings.Count(out, "\n") != lines || strings.ContainsAny(out, "\x1b\r\u202e") && name != "json" || strings.ContainsAny(out, "\x1b\r") {
			t.Errorf("%s: want %d lines of plain text:\n%q", name, lines, out)
		}
	}
}

// Whose process id was another one's before, and who is only a number of a slot.
func TestStoryOf(t *testing.T) {
	all := []scoreboard.Event{
		{Seq: 1, Kind: scoreboard.EventSpawn, Slot: 2, PID: 77, Text: "start"},
		{Seq: 2, Kind: scoreboard.EventExit, Slot: 2, PID: 77},
		{Seq: 3, Kind: scoreboard.EventOperator, Slot: -1, PID: 77},
		{Seq: 4, Kind: scoreboard.EventSpawn, Slot: 5, PID: 77, Text: "again"},
		{Seq: 5, Kind: scoreboard.EventReady, Slot: 5, PID: 77},
		{Seq: 6, Kind: scoreboard.EventSpawn, Slot: 2, PID: 78},
		{Seq: 7, Kind: scoreboard.EventDied, Slot: 2, PID: 78},
	}
	children := []scoreboard.Child{{Slot: 5, PID: 77}, {Slot: 77, PID: 99}}
	for _, c := range []struct{ n, pid, events int }{
		{77, 77, 2}, // not slot 77
		{5, 77, 2},
		{2, 78, 2},
		{78, 78, 2},
		{99, 99, 0},
		{0, 0, 0},
		{4, 0, 0},
	} {
		s := storyOf(c.n, all, children)
		switch {
		case s == nil && c.pid != 0:
			t.Errorf("%d: nobody, want %d", c.n, c.pid)
		case s != nil && (s.pid != c.pid || len(s.events) != c.events):
			t.Errorf("%d: %+v, want process %d and %d events", c.n, s, c.pid, c.events)
		}
	}
}

// Who follows is told how many events were forgotten before they could be shown.
func TestShowMissed(t *testing.T) {
	for asJSON, want := range map[bool]string{false: "… 7 events missed\n", true: "{\"missed\":7}\n"} {
		var b bytes.Buffer
		if showMissed(7, asJSON, &b); b.String() != want {
			t.Errorf("got %q, want %q", &b, want)
		}
	}
}
