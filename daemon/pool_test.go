package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// A world plays the parent's loop, the kernel and the children for a pool, without any of them.
type world struct {
	t          interface{ Fatalf(string, ...any) }
	p          *pool
	now        time.Time
	alive      map[who]*kid
	pinned     map[uint64]string
	print      string // of the program at the path
	pinErr     error
	broken     map[string]bool // fingerprints whose children exit at once
	frozen     bool            // children do not obey
	told       []string
	lines      []string // of the log
	events     []scoreboard.Event
	killed     []who
	refused    int // to leave
	up         bool
	armed      bool
	tried      int // for the parent's successor
	frozenGate bool
	done       bool
	doneErr    error
	queue      []event
}

type kid struct {
	pid        int
	kind       scoreboard.Kind
	deaf       bool // does not answer pings, and does not end its job when it is told to
	generation uint64
	ready      bool
	draining   bool
	queues     []string // on which it waits
	busy       bool
	done       uint64
}

func testLimits() limits {
	return limits{
		mode: Static, prefork: 3, maxChildren: 10, minSpare: 1, idleTimeout: time.Minute, minChildAge: 10 * time.Second,
		slots: 40, parallel: 4, startTimeout: 10 * time.Second, drainTimeout: 5 * time.Minute,
		stopTimeout: 30 * time.Second, killGrace: 2 * time.Second,
		maxDrainingGenerations: 4, maxDrainingChildren: 12,
	}
}

func newWorld(t interface{ Fatalf(string, ...any) }) *world { return worldOf(t, testLimits()) }

func worldOf(t interface{ Fatalf(string, ...any) }, l limits) *world {
	return &world{
		t: t, p: newPool(l), now: time.Unix(1e9, 0), alive: map[who]*kid{}, pinned: map[uint64]string{},
		print: "one", broken: map[string]bool{},
	}
}

// step feeds one event and plays out what the actions do to the world.
func (w *world) step(ev event) {
	for _, a := range w.p.step(w.now, ev) {
		w.act(a)
	}
}

func (w *world) act(a action) {
	switch a := a.(type) {
	case actPin:
		if w.pinErr == nil {
			w.pinned[a.generation] = w.print
		}
		w.queue = append(w.queue, evPinned{generation: a.generation, print: w.print, err: w.pinErr})
	case actUnpin:
		if _, ok := w.pinned[a.generation]; !ok {
			w.t.Fatalf("generation %d unpinned twice", a.generation)
		}
		delete(w.pinned, a.generation)
	case actSpawn:
		for other := range w.alive {
			if other.slot == a.slot {
				w.t.Fatalf("slot %d has two owners", a.slot)
			}
		}
		if _, ok := w.pinned[a.generation]; !ok {
			w.t.Fatalf("spawn from generation %d, whose program is closed", a.generation)
		}
		w.alive[a.who] = &kid{pid: 1000 + a.life, kind: a.kind, generation: a.generation}
		w.queue = append(w.queue, evSpawned{who: a.who, pid: 1000 + a.life})
	case actTry:
		w.tried++
	case actFreeze:
		w.frozenGate = true
	case actThaw:
		w.frozenGate = false
	case actArm:
		w.armed = true
	case actTell:
		if a.msg.Kind == control.Queues && w.alive[a.who] != nil {
			w.alive[a.who].queues = strings.Fields(a.msg.Text)
		}
		if k := w.alive[a.who]; k != nil && a.msg.Kind == control.Leave {
			leaves := !k.busy && !w.frozen
			if !leaves {
				w.refused++
			}
			k.draining = k.draining || leaves
			w.queue = append(w.queue, evAnswered{a.who, leaves})
		}
		if k := w.alive[a.who]; k != nil && a.msg.Kind == control.Ping && !k.deaf && !w.frozen {
			w.queue = append(w.queue, evAlive{a.who})
		}
		w.told = append(w.told, fmt.Sprintf("%c", a.msg.Kind))
		if k := w.alive[a.who]; k != nil && (a.msg.Kind == control.Drain || a.msg.Kind == control.Quit || a.msg.Kind == control.Evict) {
			k.draining = true
			if a.msg.Kind != control.Drain && !w.frozen && !k.deaf {
				k.busy = false
			}
		}
	case actKill:
		if w.alive[a.who] == nil {
			w.t.Fatalf("kill of %v, who is gone", a.who)
		}
		w.killed = append(w.killed, a.who)
		w.queue = append(w.queue, evExited{who: a.who, status: "signal: killed"})
	case actFree:
		delete(w.alive, a.who)
	case actReply:
		a.reply(a.err)
	case actLog:
		r := slog.NewRecord(w.now, slog.Level(a.level), a.msg, 0)
		r.Add(a.attrs...)
		w.events = append(w.events, eventOf(r, nil))
		if !a.silent && a.level >= int(slog.LevelInfo) {
			w.lines = append(w.lines, a.msg)
		}
	case actUp:
		w.up = true
	case actDone:
		w.done, w.doneErr = true, a.err
		if len(w.alive) > 0 {
			w.t.Fatalf("done with %d children alive", len(w.alive))
		}
	}
}

// settle lets everything that is under way come to its end without time passing.
func (w *world) settle() {
	for range 10_000 {
		if !w.one() {
			return
		}
	}
	w.t.Fatalf("the pool does not come to rest")
}

// one lets one thing happen that is under way, if there is one.
func (w *world) one() bool {
	var ev event
	if len(w.queue) > 0 {
		ev, w.queue = w.queue[0], w.queue[1:]
	} else if ev = w.willing(); ev == nil {
		return false
	}
	w.step(ev)
	return true
}

// willing returns what some child does next by itself.
func (w *world) willing() event {
	if w.frozen {
		return nil
	}
	var ws []who
	for x := range w.alive {
		ws = append(ws, x)
	}
	slices.SortFunc(ws, func(a, b who) int { return a.life - b.life })
	for _, x := range ws {
		k := w.alive[x]
		switch {
		case w.p.find(x) == nil || w.p.find(x).pid == 0:
		case w.broken[w.printOf(k.generation)] && !k.ready:
			return evExited{who: x, status: "exit status 1", failed: "exited before it was ready: exit status 1"}
		case !k.ready:
			k.ready = true
			return evReady{x}
		case k.draining && !k.busy:
			return evExited{who: x, status: "exit status 0"}
		}
	}
	return nil
}

// printOf is the program that a generation's children run, even when it is no longer pinned.
func (w *world) printOf(generation uint64) string {
	if s, ok := w.pinned[generation]; ok {
		return s
	}
	return w.p.prints[generation]
}

// pass lets time go by, waking the pool when it wants to be.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for range 100_000 {
		w.settle()
		wake := w.p.wake()
		if wake == never || wake.After(end) {
			w.now = end
			w.look()
			w.settle()
			return
		}
		if wake.After(w.now) {
			w.now = wake
		}
		w.look()
	}
	w.t.Fatalf("the pool wakes without end")
}

func (w *world) begin() *world {
	w.step(evStart{})
	w.settle()
	return w
}

func (w *world) serving(generation uint64) int { return w.p.count(generation, scoreboard.PhaseServing) }

func (w *world) anyone(generation uint64) who {
	for _, m := range w.p.inOrder(generation, scoreboard.PhaseServing) {
		return m.who
	}
	w.t.Fatalf("no child of generation %d serves", generation)
	return who{}
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestPoolStart(t *testing.T) {
	w := newWorld(t).begin()
	want(t, "serving", w.serving(1), 3)
	want(t, "up", w.up, true)
	want(t, "state", w.p.status.State, "serving")
}

func TestPoolStartFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(w *world)
		text string
	}{
		{"program missing", func(w *world) { w.pinErr = errors.New("no such file") }, "no such file"},
		{"child exits", func(w *world) { w.broken["one"] = true }, "exit status 1"},
		{"child hangs", func(w *world) { w.frozen = true }, "not ready within 10s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.harm(w)
			w.begin()
			w.pass(11 * time.Second)
			if !w.done || w.doneErr == nil || !strings.Contains(w.doneErr.Error(), tt.text) {
				t.Errorf("done %v with error %v, want one with %q", w.done, w.doneErr, tt.text)
			}
			want(t, "up", w.up, false)
		})
	}
}

func TestPoolReplacesAtOnce(t *testing.T) {
	w := newWorld(t).begin()
	w.now = w.now.Add(time.Minute)
	w.step(evExited{who: w.anyone(1), status: "signal: killed"})
	want(t, "starting", w.p.count(1, scoreboard.PhaseStarting), 1)
	w.settle()
	want(t, "serving", w.serving(1), 3)
	want(t, "died", w.p.status.Died, 1)
}

// B12: one crash an hour for a thousand hours does not add up to anything.
func TestPoolForgetsCrashes(t *testing.T) {
	w := newWorld(t).begin()
	for range 1000 {
		w.pass(time.Hour)
		w.step(evExited{who: w.anyone(1), status: "exit status 2"})
		w.settle()
		want(t, "serving", w.serving(1), 3)
	}
	want(t, "done", w.done, false)
}

// B19: children that cannot start are tried ever more seldom, and the daemon lives.
func TestPoolBacksOff(t *testing.T) {
	w := newWorld(t).begin()
	w.pass(time.Hour)
	w.broken["one"] = true
	for w.serving(1) > 0 {
		w.step(evExited{who: w.anyone(1), status: "exit status 1"})
	}
	w.pass(time.Minute)
	want(t, "state", w.p.status.State, "degraded")
	before := w.p.status.Born
	w.pass(10 * time.Minute)
	if n := w.p.status.Born - before; n > 10*4*3 || n == 0 {
		t.Errorf("%d starts in ten minutes of a crash loop", n)
	}
	want(t, "done", w.done, false)
	w.broken["one"] = false
	w.pass(time.Minute)
	want(t, "serving", w.serving(1), 3)
	want(t, "state", w.p.status.State, "serving")
}

func TestPoolReload(t *testing.T) {
	w := newWorld(t).begin()
	replies := 0
	w.step(evReload{cause: "test", reply: func(err error) {
		replies++
		if err != nil {
			t.Error(err)
		}
		want(t, "new ones serving at the reply", w.serving(2), 3)
	}})
	most := 0
	for w.one() {
		most = max(most, w.serving(0))
		if n := w.serving(0); n < 3 {
			t.Fatalf("%d children serve during a reload", n)
		}
	}
	want(t, "most serving at once", most, 3)
	want(t, "replies", replies, 1)
	want(t, "generation", w.p.generation, 2)
	want(t, "old ones left", w.serving(1), 0)
	want(t, "pinned", len(w.pinned), 1)
}

// B21: a program that cannot start never replaces one that runs.
func TestPoolReloadOfBrokenProgram(t *testing.T) {
	w := newWorld(t).begin()
	w.print, w.broken["two"] = "two", true
	var got error
	w.step(evReload{cause: "test", reply: func(err error) { got = err }})
	w.settle()
	if got == nil {
		t.Error("the reload is said to have succeeded")
	}
	want(t, "old ones serving", w.serving(1), 3)
	want(t, "reload ok", w.p.status.ReloadOK, false)
	// It is not tried again by itself, but when somebody asks.
	born := w.p.status.Born
	w.step(evReload{cause: "file", auto: true})
	w.settle()
	want(t, "born", w.p.status.Born, born)
	w.broken["two"] = false
	w.step(evReload{cause: "test"})
	w.settle()
	want(t, "new ones serving", w.serving(w.p.generation), 3)
}

// A program whose children die right after they were ready is given up as well.
func TestPoolReloadOfShortLivedProgram(t *testing.T) {
	w := newWorld(t).begin()
	w.print = "two"
	var got error
	w.step(evReload{cause: "test", reply: func(err error) { got = err }})
	for i := 0; i < 100 && got == nil; i++ {
		for _, m := range w.p.inOrder(2, scoreboard.PhaseServing) {
			w.step(evExited{who: m.who, status: "exit status 1"})
		}
		if !w.one() {
			w.now = w.now.Add(time.Second)
			w.step(evTick{})
		}
	}
	if got == nil {
		t.Fatal("the reload goes on for ever")
	}
	w.pass(time.Minute)
	want(t, "old generation", w.p.generation, 1)
	want(t, "old ones serving", w.serving(1), 3)
}

// Two wishes for a reload while one is under way are one more reload.
func TestPoolReloadsCoalesce(t *testing.T) {
	w := newWorld(t).begin()
	replies := 0
	for range 3 {
		w.step(evReload{cause: "test", reply: func(error) { replies++ }})
	}
	w.settle()
	want(t, "replies", replies, 3)
	want(t, "generation", w.p.generation, 3)
}

// B25, and the cap on generations that drain side by side: the oldest one goes, after its jobs have been told.
func TestPoolReloadWithBusyChildren(t *testing.T) {
	w := newWorld(t).begin()
	for i := range 8 {
		for _, k := range w.alive {
			k.busy = true
		}
		w.print = fmt.Sprint("build", i)
		w.step(evReload{cause: "test"})
		w.settle()
		if gens, _ := w.p.outgoing(); len(gens) > w.p.maxDrainingGenerations {
			t.Fatalf("generations %v drain", gens)
		}
		w.pass(2 * time.Second)
		want(t, "generation", w.p.generation, uint64(i+2))
	}
	gens, n := w.p.outgoing()
	want(t, "draining", fmt.Sprint(gens, n), "[5 6 7 8] 12")
	want(t, "killed", len(w.killed), 0)
	w.pass(6 * time.Minute) // the drain timeout
	want(t, "draining", w.p.count(0, scoreboard.PhaseDraining), 0)
	want(t, "killed", len(w.killed), 0)
}

// Jobs that do not end although they have been told to are killed after the grace, and the reload goes on.
func TestPoolEvictsTheDeaf(t *testing.T) {
	l := testLimits()
	l.maxDrainingGenerations = 1
	w := worldOf(t, l).begin()
	reload := func(name string) {
		for _, k := range w.alive {
			k.busy = true
		}
		w.print = name
		w.step(evReload{cause: "test"})
		w.settle()
	}
	for _, k := range w.alive {
		k.deaf = true
	}
	reload("two")
	reload("three")
	want(t, "old ones draining", w.p.count(1, phaseDraining), 3)
	w.pass(crowdPatience)
	want(t, "old ones draining, told", w.p.count(1, phaseDraining), 3)
	want(t, "generation", w.p.generation, 2)
	w.pass(2 * time.Second)
	want(t, "killed", len(w.killed), 3)
	want(t, "generation", w.p.generation, 3)
}

// Those that have drained for the longest go first, one at a time. That one leaves by itself is waited for once, not for each of them anew.
func TestPoolEvictsOldestChildren(t *testing.T) {
	l := testLimits()
	l.maxDrainingChildren = 4
	w := worldOf(t, l).begin()
	for i := range 2 {
		for _, k := range w.alive {
			k.busy = true
		}
		w.print = fmt.Sprint("build", i)
		w.step(evReload{cause: "test"})
		w.settle()
	}
	want(t, "draining of the first", w.p.count(1, phaseDraining), 3)
	want(t, "draining of the second", w.p.count(2, phaseDraining), 1)
	w.pass(crowdPatience * 3 / 2)
	want(t, "generation", w.p.generation, 3)
	want(t, "draining of the first", w.p.count(1, phaseDraining), 1)
	want(t, "draining of the second", w.p.count(2, phaseDraining), 3)
}

// B37: what replaces a crashed child runs the program of its siblings.
func TestPoolRespawnsPinnedProgram(t *testing.T) {
	w := newWorld(t).begin()
	w.print = "two"
	w.step(evExited{who: w.anyone(1), status: "exit status 2"})
	w.pass(time.Minute)
	want(t, "serving of the first generation", w.serving(1), 3)
}

func TestPoolStop(t *testing.T) {
	for _, tt := range []struct {
		name   string
		modes  []stopMode
		busy   bool
		frozen bool
		after  time.Duration
		killed int
	}{
		{"idle", []stopMode{stopDrain}, false, false, 0, 0},
		{"quick", []stopMode{stopQuick}, true, false, 0, 0},
		{"busy for too long", []stopMode{stopDrain}, true, false, 31 * time.Second, 0},
		{"busy for too long and deaf", []stopMode{stopDrain}, true, true, 33 * time.Second, 3},
		{"quick and deaf", []stopMode{stopQuick}, true, true, 3 * time.Second, 3},
		{"second signal", []stopMode{stopDrain, stopQuick}, true, false, 0, 0}, // B28
		{"third signal", []stopMode{stopDrain, stopQuick, stopQuick}, true, true, 0, 3},
		{"kill", []stopMode{stopKill}, true, true, 0, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t).begin()
			for _, k := range w.alive {
				k.busy = tt.busy
			}
			w.frozen = tt.frozen
			for _, m := range tt.modes {
				w.step(evStop{m, "test"})
				w.settle()
			}
			want(t, "done at once", w.done, tt.after == 0)
			w.pass(tt.after)
			want(t, "done", w.done, true)
			want(t, "killed", len(w.killed), tt.killed)
			want(t, "error", w.doneErr, nil)
		})
	}
}

// A daemon that is told to stop while it starts or reloads stops, and tells those who wait.
func TestPoolStopInBetween(t *testing.T) {
	w := newWorld(t)
	w.step(evStart{})
	w.step(evPinned{generation: 1, print: "one"})
	w.step(evStop{stopDrain, "test"})
	w.settle()
	want(t, "done", w.done, true)

	w = newWorld(t).begin()
	var got error
	w.print = "two"
	w.step(evReload{cause: "test", reply: func(err error) { got = err }})
	w.step(evStop{stopDrain, "test"})
	w.settle()
	want(t, "done", w.done, true)
	if got == nil {
		t.Error("a reload cut short is said to have succeeded")
	}
}

// A ready, an exit or a word from a child that is long gone does nothing.
func TestPoolIgnoresTheDead(t *testing.T) {
	w := newWorld(t).begin()
	x := w.anyone(1)
	w.step(evExited{who: x, status: "signal: killed"})
	w.settle()
	before := w.p.status
	for _, ev := range []event{
		evReady{x}, evExited{who: x}, evSpawned{who: x, pid: 1}, evGone{x, Disconnect{Job: 1}},
		evVerdict{x, Disconnect{Job: 1}, Kill}, evSettled{x, 1, true}, evOverdue{x, 1},
	} {
		w.step(ev)
	}
	want(t, "status", w.p.status, before)
	want(t, "killed", len(w.killed), 0)
}
