package web

import (
	"reflect"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// historyTime is how far back the chart goes.
const historyTime = 5 * time.Minute

// shown is what pages are told of one daemon, each part with the version in which it was new, so that a page can be told what it
// has missed and no more. Versions only grow.
type shown struct {
	life     string
	lifeAt   uint64
	head     head
	headAt   uint64
	children map[int]versioned[child] // by slot
	gone     map[int]uint64           // slots that are free now
	events   []versioned[event]
	samples  []versioned[sample]

	sampled     time.Time // when the last one was taken
	sampledDone uint64
}

type versioned[T any] struct {
	value T
	at    uint64
}

// A sample is one step of the chart: what holds from its time on.
type sample struct {
	Time     int64   `json:"t"` // ms
	Busy     int     `json:"busy"`
	Idle     int     `json:"idle"`
	Starting int     `json:"starting"`
	Other    int     `json:"other"` // draining, paused, unknown
	Rate     float64 `json:"rate"`  // jobs done in a second
}

func (s sample) same(t sample) bool {
	s.Time = t.Time
	return s == t
}

// update takes over what a look has found, and reports whether any of it is new.
func (s *shown) update(w *watcher, now time.Time, version uint64) bool {
	changed := false
	if s.children == nil || s.life != w.life {
		*s = shown{life: w.life, lifeAt: version, children: map[int]versioned[child]{}, gone: map[int]uint64{}, samples: s.samples}
		s.sampledDone = w.counters.done
		changed = true
	}
	if h := w.head(); !reflect.DeepEqual(h, s.head) {
		s.head, s.headAt, changed = h, version, true
	}
	changed = s.updateChildren(w, now, version) || changed
	for _, e := range w.events {
		if len(s.events) == 0 || e.Seq > s.events[len(s.events)-1].value.Seq {
			s.events = append(s.events, versioned[event]{show(e), version})
			changed = true
		}
	}
	s.events = s.events[max(0, len(s.events)-scoreboard.Events):]
	return s.sample(w, now, version) || changed
}

func (s *shown) updateChildren(w *watcher, now time.Time, version uint64) (changed bool) {
	there := map[int]bool{}
	if w.board != nil {
		for _, c := range w.board.Children {
			there[c.Slot] = true
			was := s.children[c.Slot]
			v := w.child(c, was.value, now)
			if was.at == 0 || v != was.value {
				s.children[c.Slot] = versioned[child]{v, version}
				delete(s.gone, c.Slot)
				changed = true
			}
		}
	}
	for slot := range s.children {
		if !there[slot] {
			delete(s.children, slot)
			s.gone[slot] = version
			changed = true
		}
	}
	return changed
}

// sample makes a step of the chart, once a second at most, if there is one.
func (s *shown) sample(w *watcher, now time.Time, version uint64) bool {
	passed := now.Sub(s.sampled)
	if passed < unwatched-fresh {
		return false
	}
	v := sample{Time: now.UnixMilli()}
	if w.running() {
		for _, c := range w.board.Children {
			switch {
			case c.State.Busy():
				v.Busy++
			case c.State == scoreboard.Idle:
				v.Idle++
			case c.State == scoreboard.Starting:
				v.Starting++
			default:
				v.Other++
			}
		}
	}
	done := w.counters.done
	if !s.sampled.IsZero() && passed < 10*unwatched {
		v.Rate = float64(int(float64(done-min(done, s.sampledDone))/passed.Seconds()*10+0.5)) / 10
	}
	s.sampled, s.sampledDone = now, done
	if n := len(s.samples); n > 0 && s.samples[n-1].value.same(v) {
		return false
	}
	s.samples = append(s.samples, versioned[sample]{v, version})
	// The one before the beginning tells what held there.
	for begin := now.Add(-historyTime).UnixMilli(); len(s.samples) > 1 && s.samples[1].value.Time < begin; {
		s.samples = s.samples[1:]
	}
	return true
}

// A delta is what a page that knows a version has missed of one daemon.
type delta struct {
	Name     string   `json:"name"`
	Full     bool     `json:"full,omitzero"` // nothing that is known of it holds any more
	Head     *head    `json:"head,omitempty"`
	Children []child  `json:"children,omitempty"`
	Gone     []int    `json:"gone,omitempty"`
	Events   []event  `json:"events,omitempty"`
	Samples  []sample `json:"samples,omitempty"`
}

// since returns what is new after a version, and whether that is anything.
func (s *shown) since(name string, version uint64) (delta, bool) {
	d := delta{Name: name, Full: version < s.lifeAt}
	if d.Full {
		version = 0
	}
	if s.headAt > version {
		d.Head = &s.head
	}
	for slot, c := range s.children {
		if c.at > version {
			d.Children = append(d.Children, s.children[slot].value)
		}
	}
	for slot, at := range s.gone {
		if at > version && !d.Full {
			d.Gone = append(d.Gone, slot)
		}
	}
	d.Events, d.Samples = newer(s.events, version), newer(s.samples, version)
	return d, d.Full || d.Head != nil || len(d.Children)+len(d.Gone)+len(d.Events)+len(d.Samples) > 0
}

// newer returns the values that came after a version, in their order.
func newer[T any](all []versioned[T], version uint64) []T {
	i := len(all)
	for i > 0 && all[i-1].at > version {
		i--
	}
	var out []T
	for _, v := range all[i:] {
		out = append(out, v.value)
	}
	return out
}
