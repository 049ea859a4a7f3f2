package daemon

import (
	"slices"
	"strconv"
	"strings"

	"github.com/brooddaemon/brood/internal/control"
)

// assign sees to it that somebody waits on each queue, if children have queues of their own: as many as there are queues
// have one each. Where one is missing, another one takes its queue beside his own; one that is there beyond that, for a
// reload tries new code on it, waits on all of them, and gets the queue of the first that leaves.
//
// The sockets are the parent's, so nobody who waits in a queue is lost: he waits until this has been done.
func (p *pool) assign() {
	if p.queues == 0 {
		return
	}
	var homeless []*member
	all := p.servers(0, phaseServing)
	all = slices.DeleteFunc(all, func(m *member) bool { return m.paused })
	owner := make([]*member, p.queues)
	has := map[*member]int{}
	for _, m := range all {
		for _, q := range m.queues {
			if !m.beside && q < p.queues && owner[q] == nil {
				owner[q] = m
				has[m]++
			}
		}
	}
	for _, m := range all {
		if has[m] == 0 {
			homeless = append(homeless, m)
		}
	}
	own := func(q int, m *member) {
		if o := owner[q]; o != nil {
			has[o]--
		}
		owner[q] = m
		has[m]++
	}
	for q := range owner { // what nobody has
		if owner[q] == nil && len(homeless) > 0 {
			own(q, homeless[0])
			homeless = homeless[1:]
		}
	}
	for q := range owner { // what somebody has beside his own
		if owner[q] != nil && has[owner[q]] > 1 && len(homeless) > 0 {
			own(q, homeless[0])
			homeless = homeless[1:]
		}
	}
	for q := range owner { // what is left goes to those who have least
		if owner[q] == nil && len(all) > 0 {
			own(q, slices.MinFunc(all, func(a, b *member) int { return has[a] - has[b] }))
		}
	}
	for _, m := range all {
		m.beside = slices.Contains(homeless, m)
		var queues []int
		for q, o := range owner {
			if o == m || m.beside {
				queues = append(queues, q)
			}
		}
		p.tellQueues(m, queues)
	}
}

// tellQueues tells a child which queues it is to wait on, if that is news.
func (p *pool) tellQueues(m *member, queues []int) {
	if slices.Equal(m.queues, queues) {
		return
	}
	m.queues = queues
	var text []string
	for _, q := range queues {
		text = append(text, strconv.Itoa(q))
	}
	p.do(actTell{m.who, control.Message{Kind: control.Queues, Text: strings.Join(text, " ")}})
}
