package reload

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

func TestSettle(t *testing.T) {
	type step struct {
		at   int    // milliseconds
		do   string // event, hold, release, done or nothing
		due  bool   // afterwards
		wait int    // milliseconds; -1 for never
	}
	tests := map[string][]step{
		"clean": {{0, "", false, -1}},
		"one event": {
			{0, "event", false, 300},
			{299, "", false, 1},
			{300, "", true, 0},
			{900, "", true, 0},
			{900, "done", false, -1},
		},
		"each event starts the quiet time anew": {
			{0, "event", false, 300},
			{200, "event", false, 300},
			{400, "event", false, 300},
			{700, "", true, 0},
		},
		"a storm is cut at max": {
			{0, "event", false, 300},
			{250, "event", false, 300},
			{500, "event", false, 300},
			{750, "event", false, 250},
			{990, "event", false, 10},
			{1000, "", true, 0},
		},
		"a hold waits for the pause, and doubles it": {
			{0, "event", false, 300},
			{300, "hold", false, 300},
			{600, "hold", false, 400}, // max after the event
			{1000, "hold", false, 1200},
			{2200, "hold", false, 2000},
			{4200, "hold", false, 2000},
		},
		"an event while holding brings the look forward, not below quiet": {
			{0, "event", false, 300},
			{300, "hold", false, 300},
			{600, "hold", false, 400},
			{650, "event", false, 300},
			{750, "event", false, 250},
			{950, "event", false, 50},
			{1000, "", true, 0},
		},
		"a hold without an event, as a poll begins it": {
			{0, "hold", false, 300},
			{300, "", true, 0},
			{300, "done", false, -1},
		},
		"a release keeps holding": {
			{0, "event", false, 300},
			{300, "hold", false, 300},
			{600, "release", true, 0},
			{600, "hold", false, 600},
			{600, "done", false, -1},
			{700, "event", false, 300},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			s := settle{quiet: 300 * time.Millisecond, max: time.Second}
			for i, st := range steps {
				now := at(st.at)
				switch st.do {
				case "event":
					s.event(now)
				case "hold":
					s.hold(now)
				case "release":
					s.release(now)
				case "done":
					s.done()
				}
				due, wait := s.due(now)
				want := time.Duration(st.wait) * time.Millisecond
				if st.wait < 0 {
					want = never
				}
				if due != st.due || wait != want {
					t.Fatalf("step %d %+v: due %v, wait %v", i, st, due, wait)
				}
				if s.dirty() != (wait != never) {
					t.Fatalf("step %d: dirty %v with wait %v", i, s.dirty(), wait)
				}
			}
		})
	}
}

func TestSettleCalm(t *testing.T) {
	s := settle{quiet: 300 * time.Millisecond, max: time.Second}
	if s.calm(at(0)) || s.overdue(at(0)) {
		t.Error("clean is neither calm nor overdue")
	}
	s.event(at(0))
	s.event(at(900))
	if s.calm(at(1000)) {
		t.Error("calm 100 ms after an event")
	}
	if !s.overdue(at(1000)) {
		t.Error("not overdue after max")
	}
	if !s.calm(at(1200)) {
		t.Error("not calm 300 ms after the last event")
	}
	s.hold(at(1200))
	if s.calm(at(5000)) {
		t.Error("calm without an event: nothing proves that events come at all")
	}
	s.release(at(5000))
	if s.overdue(at(5999)) {
		t.Error("overdue before max has passed since release")
	}
}

// TestSettleInvariants drives random events and looks through time and checks what must hold of every look.
func TestSettleInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		quiet := time.Duration(rapid.IntRange(1, 500).Draw(t, "quiet")) * time.Millisecond
		limit := quiet + time.Duration(rapid.IntRange(0, 20000).Draw(t, "extra"))*time.Millisecond
		s := settle{quiet: quiet, max: limit}
		now := epoch
		var first, last, lastLook time.Time // of unanswered events; of looks that held
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			due, wait := s.due(now)
			if due != (wait == 0) || wait < 0 {
				t.Fatalf("due %v with wait %v", due, wait)
			}
			if !first.IsZero() && !s.dirty() {
				t.Fatal("an event was forgotten")
			}
			if !due && !first.IsZero() && now.Sub(first) >= max(limit, 2*longestPause) {
				t.Fatalf("no look %v after the first event", now.Sub(first))
			}
			if due {
				byQuiet := !last.IsZero() && now.Sub(last) >= quiet
				byMax := !first.IsZero() && now.Sub(first) >= limit
				byHold := !lastLook.IsZero() && now.Sub(lastLook) >= quiet
				if !byQuiet && !byMax && !byHold {
					t.Fatal("a look that nothing asked for")
				}
				if !lastLook.IsZero() && now.Sub(lastLook) < quiet {
					t.Fatalf("two looks %v apart", now.Sub(lastLook))
				}
				if s.calm(now) && !byQuiet {
					t.Fatal("calm without quiet")
				}
				first, last = time.Time{}, time.Time{}
				if rapid.Bool().Draw(t, "moving") {
					if s.overdue(now) {
						s.release(now)
					}
					s.hold(now)
					lastLook = now
				} else {
					s.done()
					lastLook = time.Time{}
				}
				continue
			}
			step := time.Duration(rapid.IntRange(0, 700).Draw(t, "step")) * time.Millisecond
			if wait != never && rapid.Bool().Draw(t, "sleep") {
				step = wait
			}
			now = now.Add(min(step, wait))
			if rapid.Bool().Draw(t, "event") {
				s.event(now)
				if first.IsZero() {
					first = now
				}
				last = now
			}
		}
	})
}
