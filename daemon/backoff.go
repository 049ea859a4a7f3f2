package daemon

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

const (
	backoffFirst = 500 * time.Millisecond
	backoffMax   = 30 * time.Second
	// backoffReset is how long a child must have served for the next failure in its place to count as the first.
	backoffReset = time.Minute
	// infancy is how long a child must have served for its death not to count as a failed start.
	infancy = time.Second

	// deathsAtOnce is how many children may at least die by themselves and be replaced without delay; deathRate is how
	// many more each second. A pool in which all of them die again and again is not worth a processor.
	deathsAtOnce = 64
	deathRate    = 1.0
	// failuresAtOnce is how many children that have failed to start, or died in their infancy, are tried again without
	// delay, failureRate how many more each second: what a crash loop may cost, however many children take part.
	failuresAtOnce = 32
	failureRate    = 3.0

	// linesAtOnce is how many lines about children that fail the log takes at once, lineRate how many more each second:
	// a crash loop must not fill a disk, and its first lines say what there is to say.
	linesAtOnce = 200
	lineRate    = 0.5
)

// A ration is a token bucket.
type ration struct {
	most  float64 // that it holds
	rate  float64 // what comes back each second
	least float64 // how far it may be overdrawn
	have  float64
	at    time.Time // never: it is full
}

// fill adds what has come back.
func (r *ration) fill(now time.Time) {
	if r.at == never {
		r.have = r.most
	} else if d := now.Sub(r.at).Seconds(); d > 0 {
		r.have = min(r.have+r.rate*d, r.most)
	}
	r.at = now
}

// take takes one and returns how long it will be until that one is there.
func (r *ration) take(now time.Time) time.Duration {
	r.fill(now)
	r.have = max(r.have-1, r.least)
	return time.Duration(max(-r.have, 0) / r.rate * float64(time.Second))
}

// may takes one if it is there.
func (r *ration) may(now time.Time) bool {
	r.fill(now)
	if r.have < 1 {
		return false
	}
	r.have--
	return true
}

// A place is where a child is missing, and the next one is to be tried at a certain time. Each has a count of its own:
// one child that cannot start does not keep others from being replaced.
type place struct {
	at       time.Time
	failures int // in a row
}

// failedPlace makes a place of the one that m leaves: the first failure costs nothing, then half a second, doubling up to half
// a minute, give or take a fifth.
func (p *pool) failedPlace(m *member) place {
	n := m.failures + 1
	wait := p.failed.take(p.now)
	if n > 1 {
		d := min(backoffFirst<<min(n-2, 10), backoffMax)
		wait = max(wait, d-d/5+time.Duration(rand.Int64N(int64(d/5*2))))
	}
	pl := place{p.now.Add(wait), n}
	p.places = append(p.places, pl)
	return pl
}

// bereave makes a place of the one of a child that has died by itself after it had served. It waits only if too many
// have died of late.
func (p *pool) bereave(m *member) {
	failures := m.failures
	if p.now.Sub(m.readyAt) >= backoffReset {
		failures = 0
	}
	if wait := p.deaths.take(p.now); wait > 0 || failures > 0 {
		p.places = append(p.places, place{p.now.Add(wait), failures})
	}
}

// mayLog reports whether the log takes another line about a child that fails, and says so when some were left out.
func (p *pool) mayLog() bool {
	if !p.lines.may(p.now) {
		p.unsaid++
		return false
	}
	if p.unsaid > 0 {
		p.log(slog.LevelWarn, nil, "lines about failing children were left out", "lines", p.unsaid)
		p.unsaid = 0
	}
	return true
}

// retryAt is when the next place is to be tried that has to wait; never if none has to.
func (p *pool) retryAt() time.Time {
	first := never
	for _, pl := range p.places {
		if pl.at.After(p.now) && (first == never || pl.at.Before(first)) {
			first = pl.at
		}
	}
	return first
}

// fill starts children of a generation until as many are there as are wanted, or are starting as may at once.
func (p *pool) fill(generation uint64, atOnce int, cause func() string) {
	if p.holding() { // the next parent does it
		return
	}
	missing := p.target - p.count(generation, phaseStarting, phaseServing)
	for _, m := range p.servers(generation, scoreboard.PhaseKilling) {
		if m.failed != "" {
			missing-- // when its end is there it is known how long its place has to wait
		}
	}
	starting, atOnce := len(p.inOrder(0, phaseStarting)), min(atOnce, p.parallel)
	slices.SortStableFunc(p.places, func(a, b place) int { return a.at.Compare(b.at) })
	p.places = p.places[:max(min(len(p.places), missing), 0)]
	for missing > 0 && starting < atOnce {
		failures := 0
		switch {
		case len(p.places) > 0 && !p.places[0].at.After(p.now):
			failures, p.places = p.places[0].failures, p.places[1:]
		case missing <= len(p.places):
			return // all that are missing have to wait
		}
		if p.spawn(scoreboard.Serve, generation, cause(), failures) == nil {
			return
		}
		missing, starting = missing-1, starting+1
	}
}
