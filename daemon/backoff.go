package daemon

import (
	"math/rand/v2"
	"slices"
	"time"
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
)

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
	if m.readyAt != never && p.now.Sub(m.readyAt) >= backoffReset {
		n = 1
	}
	pl := place{p.now, n}
	if n > 1 {
		d := min(backoffFirst<<min(n-2, 10), backoffMax)
		pl.at = p.now.Add(d - d/5 + time.Duration(rand.Int64N(int64(d/5*2))))
	}
	p.places = append(p.places, pl)
	return pl
}

// bereave makes a place of the one of a child that has died by itself after it had served. It waits only if too many
// have died of late.
func (p *pool) bereave(m *member) {
	most := float64(max(deathsAtOnce, 2*p.maxChildren))
	if p.deathsAt == never {
		p.deaths = most
	} else {
		p.deaths = min(p.deaths+deathRate*p.now.Sub(p.deathsAt).Seconds(), most)
	}
	p.deathsAt = p.now
	p.deaths--
	if p.deaths < 0 {
		p.places = append(p.places, place{p.now.Add(time.Duration(-p.deaths / deathRate * float64(time.Second))), m.failures})
	}
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

// fill starts children of a generation until as many are there as are wanted, or are being tried as may be.
func (p *pool) fill(generation uint64, cause func() string) {
	missing := p.target - p.count(generation, phaseStarting, phaseServing)
	starting := p.count(0, phaseStarting)
	slices.SortStableFunc(p.places, func(a, b place) int { return a.at.Compare(b.at) })
	p.places = p.places[:max(min(len(p.places), missing), 0)]
	for missing > 0 && starting < p.parallel {
		failures := 0
		switch {
		case len(p.places) > 0 && !p.places[0].at.After(p.now):
			failures, p.places = p.places[0].failures, p.places[1:]
		case missing <= len(p.places):
			return // all that are missing have to wait
		}
		m := p.spawn(generation, cause())
		if m == nil {
			return
		}
		m.failures = failures
		missing, starting = missing-1, starting+1
	}
}
