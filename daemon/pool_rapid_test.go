package daemon

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/brooddaemon/brood/scoreboard"
)

// TestPoolInvariants drives the pool through random histories: exits, hang-ups, reloads of good and bad programs,
// failing starts, stops, and clocks that jump by a year. The world itself checks that a slot has one owner, that
// nobody is started from a closed program and that nobody is killed who is gone.
func TestPoolInvariants(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value
	defer flag.Set("rapid.checks", checks.String())
	if checks.String() == "100" { // nobody has asked for another number
		flag.Set("rapid.checks", "10000")
	}
	seen := map[string]int{}
	// Histories in which nothing happens prove nothing. What is rare takes more of them.
	missing := []string{
		"up", "reload done", "reload failed, the old children go on", "new generation serves", "evicting child", "reload not needed", "growing", "killing child",
		"child died", "child failed to start", "dequeue child failed", "job killed", "client has left", "degraded", "stalled", "hung",
		"dequeue", "scale", "refused to leave", "upgraded", "draining all children", "drained", "came back from a drain", "put off", "one drained", "settings changed", "upgrade failed, the parent goes on as it was",
	}
	for range 10 {
		rapid.Check(t, func(t *rapid.T) { history(t, seen) })
		missing = slices.DeleteFunc(missing, func(what string) bool { return seen[what] > 0 })
		if len(missing) == 0 {
			break
		}
	}
	if len(missing) > 0 {
		t.Errorf("in none of the histories: %q", missing)
	}
	t.Log(seen)
}

// history is one random history; seen counts what has happened in it.
func history(t *rapid.T, seen map[string]int) {
	l := testLimits()
	l.mode = rapid.SampledFrom([]Pool{Static, Dynamic, OnDemand}).Draw(t, "pool")
	l.soak = rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute}).Draw(t, "soak")
	l.hungAfter = rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(t, "hung after")
	l.maxAge = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "max age")
	l.dequeueMax, l.dequeueEvery = rapid.IntRange(0, 2).Draw(t, "dequeue"), time.Minute
	if l.mode == Static && rapid.Bool().Draw(t, "queues") {
		l.queues = l.prefork
	}
	w := worldOf(t, l)
	w.step(evStart{})
	if rapid.Bool().Draw(t, "booted") {
		w.settle()
	}
	asked, answered := 0, 0
	empty := false // it has been drained, and nobody serves yet
	revoked := map[who]uint64{}
	t.Repeat(map[string]func(*rapid.T){
		"something goes on": func(t *rapid.T) { w.one() },
		"everything goes on": func(t *rapid.T) {
			if !w.frozen {
				w.settle()
			}
		},
		"a child dies": func(t *rapid.T) {
			if x, ok := someone(t, w); ok {
				w.step(evExited{who: x, status: rapid.SampledFrom([]string{"signal: killed", "exit status 1"}).Draw(t, "status")})
			}
		},
		"a child becomes busy or idle": func(t *rapid.T) {
			if x, ok := someone(t, w); ok {
				w.alive[x].busy = !w.alive[x].busy
			}
		},
		"a client leaves": func(t *rapid.T) {
			x, ok := someone(t, w)
			if !ok {
				return
			}
			job := rapid.Uint64Range(1, 5).Draw(t, "job")
			w.step(evGone{x, Disconnect{Job: job}})
			w.step(evVerdict{x, Disconnect{Job: job}, Kill})
			if m := w.p.find(x); m != nil && m.revoked != nil {
				revoked[x] = m.revoked.serial
			}
		},
		"a revocation is settled": func(t *rapid.T) {
			if x, ok := someone(t, w); ok {
				w.step(evSettled{x, rapid.Uint64Range(1, 5).Draw(t, "job"), rapid.Bool().Draw(t, "leaving")})
			}
		},
		"a job is overdue": func(t *rapid.T) {
			x, ok := someone(t, w)
			if !ok {
				return
			}
			job := rapid.Uint64Range(1, 5).Draw(t, "job")
			m := w.p.find(x)
			mine := m != nil && m.revoked != nil && m.revoked.serial == job
			before := len(w.killed)
			w.step(evOverdue{x, job})
			if m == nil || !slices.Contains(w.killed[before:], x) {
				return
			}
			because := strings.HasPrefix(m.end, "client of job") || strings.HasPrefix(m.end, "time of job")
			if because && mine {
				seen["job killed"]++
			}
			if because != mine {
				t.Fatalf("a child was killed for job %d, which was not the revoked one", job)
			}
		},
		"the program changes": func(t *rapid.T) {
			w.print = fmt.Sprint(rapid.IntRange(1, 6).Draw(t, "program"))
			w.broken[w.print] = rapid.Bool().Draw(t, "broken")
		},
		"the program vanishes or is back": func(t *rapid.T) {
			if w.pinErr == nil {
				w.pinErr = errors.New("no such file")
			} else {
				w.pinErr = nil
			}
		},
		"a child becomes deaf": func(t *rapid.T) {
			if x, ok := someone(t, w); ok {
				w.alive[x].deaf = true
			}
		},
		"a child pauses or goes on": func(t *rapid.T) {
			if x, ok := someone(t, w); ok {
				w.step(evPaused{x, rapid.Bool().Draw(t, "paused")})
			}
		},
		"a child is spent": func(t *rapid.T) {
			if x, ok := someone(t, w); ok {
				w.step(evSpent{x, "test"})
			}
		},
		"a job runs for too long": func(t *rapid.T) {
			if x, ok := someone(t, w); ok {
				w.step(evOvertime{x, rapid.Uint64Range(1, 5).Draw(t, "job")})
			}
		},
		"the parent was stopped": func(t *rapid.T) {
			d := rapid.SampledFrom([]time.Duration{time.Minute, 366 * 24 * time.Hour}).Draw(t, "time")
			w.now = w.now.Add(d)
			killed := len(w.killed)
			w.step(evStalled{d})
			for _, x := range w.killed[killed:] {
				// A reload may come to its end now, and those of the old code that start are not wanted any more.
				if m := w.p.find(x); m == nil || !strings.HasPrefix(m.end, "reload") {
					t.Fatalf("a child was killed for what the parent has slept through: %+v", m)
				}
			}
			seen["stalled"]++
		},
		"a start fails": func(t *rapid.T) {
			for i, ev := range w.queue {
				if ev, ok := ev.(evSpawned); ok {
					w.queue = slices.Delete(w.queue, i, i+1)
					w.step(evSpawnFailed{ev.who, errors.New("resource temporarily unavailable")})
					return
				}
			}
		},
		"reload": func(t *rapid.T) {
			asked++
			w.step(evReload{cause: "test", auto: rapid.Bool().Draw(t, "auto"), unasked: rapid.Bool().Draw(t, "unasked"), reply: func(error) { answered++ }})
		},
		"upgrade": func(t *rapid.T) {
			asked++
			w.step(evUpgrade{cause: "test", reply: func(error) { answered++ }})
		},
		"the successor has been tried": func(t *rapid.T) {
			if w.p.upgrade != nil && w.p.upgrade.stage == upgradeTrying {
				w.step(evTried{err: rapid.SampledFrom([]error{nil, nil, errors.New("unfit")}).Draw(t, "verdict")})
			}
		},
		"the parent is replaced": func(t *rapid.T) {
			if w.frozenGate && !slices.ContainsFunc(w.queue, ofParent) {
				w.succeed(
					rapid.SampledFrom([]time.Duration{time.Millisecond, time.Minute}).Draw(t, "gap"),
					rapid.SampledFrom([]time.Duration{0, -time.Hour, 366 * 24 * time.Hour}).Draw(t, "jump"))
			}
		},
		"it cannot be replaced": func(t *rapid.T) {
			if w.frozenGate {
				w.step(evNotReplaced{errors.New("exec format error")})
			}
		},
		"time passes": func(t *rapid.T) {
			w.now = w.now.Add(rapid.SampledFrom([]time.Duration{
				time.Millisecond, time.Second, 3 * time.Second, time.Minute, time.Hour, 366 * 24 * time.Hour,
			}).Draw(t, "time"))
			w.look()
		},
		"the parent looks": func(t *rapid.T) { w.look() },
		"somebody knocks": func(t *rapid.T) {
			if w.armed {
				w.armed = false
				w.step(evKnock{})
			}
		},
		"scale": func(t *rapid.T) {
			asked++
			w.step(evScale{
				n: rapid.IntRange(-12, 12).Draw(t, "n"), relative: rapid.Bool().Draw(t, "relative"),
				reply: func(error) { answered++ },
			})
		},
		"settings change": func(t *rapid.T) {
			if w.p.roll != nil || len(w.p.retreats) > 0 { // they do when a reload has succeeded
				return
			}
			l := w.p.limits
			l.prefork = rapid.IntRange(1, 6).Draw(t, "prefork")
			l.maxChildren = max(rapid.IntRange(6, 10).Draw(t, "max children"), w.p.count(0, phaseStarting, phaseServing))
			l.minSpare = rapid.IntRange(1, 2).Draw(t, "min spare")
			l.maxAge = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "max age")
			l.drainTimeout = rapid.SampledFrom([]time.Duration{time.Minute, 5 * time.Minute}).Draw(t, "drain timeout")
			l.maxDrainingChildren = rapid.IntRange(10, 12).Draw(t, "draining")
			l.dequeueMax = rapid.IntRange(0, 2).Draw(t, "dequeue")
			w.step(evLimits{l})
			seen["settings changed"]++
		},
		"drain": func(t *rapid.T) {
			asked++
			ev := evDrain{cause: "test", begin: rapid.Bool().Draw(t, "begin"), reply: func(error) { answered++ }}
			if x, ok := someone(t, w); ok && rapid.Bool().Draw(t, "one") {
				ev.pid = w.alive[x].pid
				seen["one drained"]++
			}
			w.step(ev)
		},
		"stop": func(t *rapid.T) {
			if rapid.IntRange(0, 20).Draw(t, "really") == 0 {
				w.step(evStop{rapid.SampledFrom([]stopMode{stopDrain, stopQuick, stopKill}).Draw(t, "mode"), "test"})
			}
		},
		"": func(t *rapid.T) {
			checkPool(t, w)
			checkQueues(t, w)
			if w.p.next != nil && w.p.putsOff(*w.p.next) {
				seen["put off"]++
			}
			if empty && !w.p.drained && w.serving(0) > 0 {
				seen["came back from a drain"]++
			}
			empty = w.p.drained || empty && w.serving(0) == 0
			if w.p.status.State == "degraded" {
				seen["degraded"]++
			}
			for _, m := range w.p.members {
				if m.kind == scoreboard.Dequeue {
					seen["dequeue"]++
				}
				if strings.HasPrefix(m.end, "has given no sign") {
					seen["hung"]++
				}
			}
		},
	})
	// Whatever has happened: who asks for the end gets it, with everybody reaped and every question answered.
	w.step(evStop{stopDrain, "test"})
	w.pass(time.Minute)
	w.step(evStop{stopKill, "test"})
	w.pass(time.Minute)
	if !w.done {
		t.Fatalf("the daemon does not stop: %d children left", len(w.alive))
	}
	if answered != asked {
		t.Fatalf("%d of %d reloads were answered", answered, asked)
	}
	for _, line := range w.lines {
		seen[line]++
	}
	// Whoever has been born has a death.
	born := map[int]bool{}
	for _, e := range w.events {
		switch e.Kind {
		case scoreboard.EventSpawn:
			born[e.PID] = true
		case scoreboard.EventExit, scoreboard.EventDied, scoreboard.EventFailed:
			delete(born, e.PID)
		}
	}
	if len(born) > 0 {
		t.Fatalf("nobody says how these have ended: %v", born)
	}
	if w.up {
		seen["up"]++
	}
	seen["refused to leave"] += w.refused
}

// ofParent reports whether an event is one of the parent's own, which it would not leave to its successor.
func ofParent(ev event) bool {
	switch ev.(type) {
	case evSpawned, evPinned:
		return true
	}
	return false
}

func someone(t *rapid.T, w *world) (who, bool) {
	var ws []who
	for x := range w.alive {
		if m := w.p.find(x); m != nil && m.pid != 0 {
			ws = append(ws, x)
		}
	}
	if len(ws) == 0 {
		return who{}, false
	}
	slices.SortFunc(ws, func(a, b who) int { return a.life - b.life })
	return rapid.SampledFrom(ws).Draw(t, "child"), true
}

func checkPool(t *rapid.T, w *world) {
	p := w.p
	// One that was asked to leave has been counted out already, but may turn out to have left only now.
	most := p.maxChildren
	if p.roll != nil && p.roll.stage == rollSoak {
		most++ // the one that is on probation
	}
	if n := w.serving(0); n > most {
		t.Fatalf("%d children serve, at most %d may", n, most)
	}
	if p.target > p.maxChildren || p.target < p.floor {
		t.Fatalf("%d children are wanted, not %d to %d", p.target, p.floor, p.maxChildren)
	}
	if n := p.count(0, scoreboard.PhaseStarting); n > p.parallel+1 {
		t.Fatalf("%d children are starting", n)
	}
	// A reload that retreats drains what it has brought as well.
	if gens, _ := p.outgoing(); len(gens) > p.maxDrainingGenerations+1 {
		t.Fatalf("generations %v drain", gens)
	}
	// Nobody comes to a pool that has been drained, but to try the program that a reload brings.
	if p.resting() && p.stopping == stopNot {
		for _, m := range p.inOrder(0, phaseStarting, phaseServing) {
			if p.roll == nil || m.generation != p.roll.generation {
				t.Fatalf("%+v is in a pool that has been drained", m)
			}
		}
	}
	for slot, m := range p.members {
		if m.slot != slot || slot >= p.slots {
			t.Fatalf("slot %d holds %v", slot, m.who)
		}
		if m.phase == scoreboard.PhaseStarting && m.deadline == never {
			t.Fatalf("%v starts without a deadline", m.who)
		}
	}
	for x := range w.alive {
		if p.find(x) == nil {
			t.Fatalf("%v is forgotten", x)
		}
	}
	if w.done != (p.finished) {
		t.Fatalf("done %v, finished %v", w.done, p.finished)
	}
}
