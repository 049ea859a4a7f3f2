package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/brooddaemon/brood/internal/control"
)

// crowdPatience is how long a reload waits for old children to leave by themselves before jobs are ended to make room for
// it: most of those that drain have nothing to do and are about to go.
const crowdPatience = time.Second

// evict tells the jobs of a draining child why they are to end; what has not ended after KillGrace is killed.
func (p *pool) evict(m *member, why string) {
	m.evicted, m.end = true, cmp.Or(m.end, why)
	p.log(slog.LevelWarn, m, "evicting child", "cause", why)
	within := max(p.killGrace, 0)
	p.setPhase(m, phaseDraining, p.now.Add(within))
	p.do(actTell{m.who, control.Message{Kind: control.Evict, Text: why, Within: within}})
}

// roomToDrain reports whether one more child of the old generation may drain beside those that do. If there is none
// the oldest ones have to make some; a reload waits for them to do so by themselves for a moment, once.
func (p *pool) roomToDrain() bool {
	r := p.roll
	why := p.crowd()
	if why == "" {
		return true
	}
	if r.crowded == never {
		r.crowded = p.now.Add(crowdPatience)
	}
	if !p.now.Before(r.crowded) {
		p.evictOldest(why)
	}
	return false
}

// crowd says in which way there would be too many if another child of the old generation began to drain; empty: in none.
func (p *pool) crowd() string {
	gens, n := p.outgoing()
	switch {
	case !slices.Contains(gens, p.roll.old) && len(gens) >= p.maxDrainingGenerations:
		return fmt.Sprintf("more than %d old generations drain", p.maxDrainingGenerations)
	case n >= p.maxDrainingChildren:
		return fmt.Sprintf("more than %d children of old generations drain", p.maxDrainingChildren)
	}
	return ""
}

// outgoing returns the generations before the one that is coming, or serves, of which children drain, the oldest first,
// and how many children that are.
func (p *pool) outgoing() (gens []uint64, n int) {
	newest := p.generation
	if p.roll != nil {
		newest = p.roll.generation
	}
	for _, m := range p.members {
		if m.phase == phaseDraining && m.generation < newest {
			gens, n = append(gens, m.generation), n+1
		}
	}
	slices.Sort(gens)
	return slices.Compact(gens), n
}

// evictOldest ends what stands in the way of a reload: the oldest generation if there are too many of them, else its child
// that has drained for the longest. One at a time: who has been told to end is waited for.
func (p *pool) evictOldest(why string) {
	gens, n := p.outgoing()
	oldest := p.inOrder(gens[0], phaseDraining)
	if slices.ContainsFunc(oldest, func(m *member) bool { return m.evicted }) {
		return
	}
	if n >= p.maxDrainingChildren {
		slices.SortStableFunc(oldest, func(a, b *member) int { return a.drains.Compare(b.drains) })
		oldest = oldest[:1]
	}
	for _, m := range oldest {
		p.evict(m, why)
	}
}

// yield makes the children of a generation stand behind in the line of those who wait for a connection: new jobs go to the
// newest code as soon as somebody is there who runs it, and to the others only when he is busy.
func (p *pool) yield(generation uint64) {
	for _, m := range p.servers(generation, phaseServing) {
		p.do(actTell{m.who, control.Message{Kind: control.Yield}})
	}
}

// stepUp takes that back: there is to be no newer code for now.
func (p *pool) stepUp(generation uint64) {
	for _, m := range p.servers(generation, phaseServing) {
		p.do(actTell{m.who, control.Message{Kind: control.Yield, Leaving: true}})
	}
}
