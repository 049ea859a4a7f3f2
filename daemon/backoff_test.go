package daemon

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/scoreboard"
)

// One place in which nobody comes up does not keep other children from being replaced at once.
func TestBackoffIsPerPlace(t *testing.T) {
	w := newWorld(t).begin()
	w.pass(time.Hour)
	w.frozen = true // nobody becomes ready by himself
	w.step(evExited{who: w.anyone(1), status: "signal: killed"})
	for range 5 { // the successor fails again and again
		for w.one() {
		}
		for _, m := range w.p.inOrder(1, phaseStarting) {
			w.step(evExited{who: m.who, status: "exit status 1"})
		}
		if at := w.p.retryAt(); at != never {
			w.now = at
			w.step(evTick{})
		}
	}
	for _, m := range w.p.inOrder(1, phaseStarting) {
		w.step(evExited{who: m.who, status: "exit status 1"})
	}
	want(t, "starting", w.p.count(1, phaseStarting), 0)
	want(t, "state", w.p.status.State, "degraded")
	w.step(evExited{who: w.anyone(1), status: "signal: killed"})
	want(t, "starting after another death", w.p.count(1, phaseStarting), 1)
}

// Deaths of children that had served are answered at once, many of them, but not without end.
func TestBackoffOfDeaths(t *testing.T) {
	w := newWorld(t).begin()
	w.pass(time.Hour)
	for range 50 { // five a second, ten seconds long
		w.now = w.now.Add(200 * time.Millisecond)
		w.step(evExited{who: w.anyone(1), status: "signal: killed"})
		w.settle()
		want(t, "serving", w.serving(1), 3)
	}
	w = newWorld(t).begin()
	w.pass(time.Hour)
	begun, born := w.now, w.p.status.Born
	for w.now.Sub(begun) < 10*time.Minute { // they live for two seconds each
		w.now = w.now.Add(2 * time.Second)
		for w.serving(1) > 0 {
			w.step(evExited{who: w.anyone(1), status: "exit status 1"})
		}
		w.settle()
	}
	if n := w.p.status.Born - born; n > 64+10*60+3 || n < 300 {
		t.Errorf("%d births in ten minutes", n)
	}
	want(t, "done", w.done, false)
}

// B22: a child that the kernel cannot start is tried again, and the parent lives.
func TestBackoffOfFailingSpawns(t *testing.T) {
	w := newWorld(t).begin()
	w.pass(time.Hour)
	x := w.anyone(1)
	w.step(evExited{who: x, status: "signal: killed"})
	tries := 0
	for end := w.now.Add(10 * time.Minute); w.now.Before(end); {
		for _, m := range w.p.inOrder(1, phaseStarting) {
			tries++
			w.queue = nil
			w.step(evSpawnFailed{m.who, unix.EAGAIN})
		}
		if w.p.count(1, phaseStarting) > 0 {
			continue // the first failure costs nothing
		}
		at := w.p.retryAt()
		if at == never {
			t.Fatal("nobody is tried any more")
		}
		w.now = at
		w.step(evTick{})
	}
	if tries < 10 || tries > 60 {
		t.Errorf("%d tries in ten minutes", tries)
	}
	w.settle()
	want(t, "serving", w.serving(1), 3)
}

// B19: what a crash loop has to say is said, and then only now and then.
func TestLogOfCrashLoop(t *testing.T) {
	w := newWorld(t).begin()
	w.pass(time.Hour)
	w.lines, w.events = nil, nil
	end := w.now.Add(time.Hour)
	deaths := 0
	for w.now.Before(end) { // they live for half a second each, whatever the back-off allows
		for w.serving(1) > 0 {
			w.step(evExited{who: w.anyone(1), status: "exit status 1"})
			deaths++
		}
		w.pass(500 * time.Millisecond)
	}
	if deaths < 300 {
		t.Fatalf("only %d deaths in an hour", deaths)
	}
	if n := len(w.lines); n > linesAtOnce+3600*lineRate+deaths/10 || n < 200 {
		t.Errorf("%d lines for %d deaths in an hour", n, deaths)
	}
	// The ring of events is told of each.
	told := 0
	for _, e := range w.events {
		if e.Kind == scoreboard.EventDied {
			told++
		}
	}
	if told != deaths {
		t.Errorf("%d events for %d deaths", told, deaths)
	}
	// The spawns of a crash loop are limited as well: B19.
	if deaths > 3*(2*60+20) {
		t.Errorf("%d deaths in an hour", deaths)
	}
}

// A ration that may not be overdrawn comes to an end, too.
func TestRationEnds(t *testing.T) {
	at := time.Unix(1e9, 0)
	r := ration{most: 3, rate: 2}
	for i, want := range []bool{true, true, true, false, false} {
		if got := r.may(at); got != want {
			t.Errorf("number %d: %v", i+1, got)
		}
	}
	if at = at.Add(500 * time.Millisecond); !r.may(at) || r.may(at) {
		t.Errorf("after half a second there is not just one: %v left", r.have)
	}
}

func TestRation(t *testing.T) {
	at := time.Unix(1e9, 0)
	r := ration{most: 3, rate: 2, least: -4}
	for i, wantWait := range []time.Duration{0, 0, 0, 500 * time.Millisecond, time.Second, 1500 * time.Millisecond, 2 * time.Second, 2 * time.Second} {
		if got := r.take(at); got != wantWait {
			t.Errorf("number %d waits for %v, want %v", i+1, got, wantWait)
		}
	}
	if r.may(at.Add(2 * time.Second)) {
		t.Error("one is there although all that came back was owed")
	}
	if !r.may(at.Add(3 * time.Second)) {
		t.Error("none is there after three seconds")
	}
	r.take(at.Add(-time.Hour)) // a clock that goes back gives nothing and takes nothing
	if got := r.take(at.Add(365 * 24 * time.Hour)); got != 0 || r.have != 2 {
		t.Errorf("after a year it waits for %v and has %v", got, r.have)
	}
}
