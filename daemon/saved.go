package daemon

import (
	"maps"
	"slices"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// A savedPool is what one parent tells the next of its pool. Times are of CLOCK_MONOTONIC, which goes on over exec(2); 0 is
// never.
type savedPool struct {
	Life       int               `json:"life"`
	Generation uint64            `json:"generation"`
	Newest     uint64            `json:"newest"`
	Prints     map[uint64]string `json:"prints"`
	Bad        string            `json:"bad,omitempty"`
	Next       *savedWish        `json:"next,omitempty"`
	FirstFloor int               `json:"first_floor"`
	Floor      int               `json:"floor"`
	Target     int               `json:"target"`
	Drained    bool              `json:"drained,omitempty"`
	RolledAt   time.Duration     `json:"rolled_at,omitempty"`
	Places     []savedPlace      `json:"places,omitempty"`
	Vacant     []string          `json:"vacant,omitempty"`
	Dequeue    savedDequeue      `json:"dequeue"`
	Trouble    string            `json:"trouble,omitempty"`
	Status     scoreboard.Status `json:"status"`
	Members    []savedMember     `json:"members"`
}

// A savedWish is a reload that has been asked for.
type savedWish struct {
	Cause   string `json:"cause"`
	Auto    bool   `json:"auto,omitempty"`
	Unasked bool   `json:"unasked,omitempty"`
}

type savedPlace struct {
	At       time.Duration `json:"at"`
	Failures int           `json:"failures,omitempty"`
}

type savedDequeue struct {
	Next     time.Duration `json:"next,omitempty"`
	Owed     int           `json:"owed,omitempty"`
	Failures int           `json:"failures,omitempty"`
}

type savedMember struct {
	Slot       int                      `json:"slot"`
	Life       int                      `json:"life"`
	PID        int                      `json:"pid"`
	Kind       uint64                   `json:"kind,omitempty"`
	Generation uint64                   `json:"generation"`
	Phase      phase                    `json:"phase"`
	Deadline   time.Duration            `json:"deadline,omitempty"`
	ReadyAt    time.Duration            `json:"ready_at,omitempty"`
	Failures   int                      `json:"failures,omitempty"`
	Queues     []int                    `json:"queues,omitempty"`
	Beside     bool                     `json:"beside,omitempty"`
	Paused     bool                     `json:"paused,omitempty"`
	Busy       bool                     `json:"busy,omitempty"`
	Done       uint64                   `json:"done,omitempty"`
	IdleSince  time.Duration            `json:"idle_since,omitempty"`
	Asked      bool                     `json:"asked,omitempty"`
	Evicted    bool                     `json:"evicted,omitempty"`
	Drains     time.Duration            `json:"drains,omitempty"`
	Sign       time.Duration            `json:"sign,omitempty"`
	Pinged     time.Duration            `json:"pinged,omitempty"`
	Expires    time.Duration            `json:"expires,omitempty"`
	End        string                   `json:"end,omitempty"`
	Failed     string                   `json:"failed,omitempty"`
	Lost       map[uint64]time.Duration `json:"lost,omitempty"`
	Revoked    *savedRevocation         `json:"revoked,omitempty"`
	RevokedFor string                   `json:"revoked_for,omitempty"`
	RevokedJob uint64                   `json:"revoked_job,omitempty"`
	Late       uint64                   `json:"late,omitempty"`
	Waiting    []savedRevocation        `json:"waiting,omitempty"`
}

type savedRevocation struct {
	Serial uint64        `json:"serial"`
	Why    string        `json:"why"`
	Term   bool          `json:"term,omitempty"`
	KillAt time.Duration `json:"kill_at,omitempty"`
}

// A watchmaker turns times of this process into such that another one can read, and back.
type watchmaker struct {
	now  time.Time
	mono time.Duration // the same moment of CLOCK_MONOTONIC
}

func (w watchmaker) save(t time.Time) time.Duration {
	if t == never {
		return 0
	}
	return max(w.mono+t.Sub(w.now), 1)
}

func (w watchmaker) load(d time.Duration) time.Time {
	if d == 0 {
		return never
	}
	return w.now.Add(d - w.mono)
}

// save returns all that the next parent has to know.
func (p *pool) save(w watchmaker) savedPool {
	s := savedPool{
		Life: p.life, Generation: p.generation, Newest: p.newest, Prints: maps.Clone(p.prints), Bad: p.bad,
		FirstFloor: p.firstFloor(), Floor: p.floor, Target: p.target, Drained: p.drained, RolledAt: w.save(p.rolledAt), Vacant: slices.Clone(p.vacant),
		Dequeue: savedDequeue{w.save(p.dequeue.next), p.dequeue.owed, p.dequeue.failures},
		Trouble: p.trouble, Status: p.status,
	}
	if p.next != nil {
		s.Next = &savedWish{p.next.cause, p.next.auto, p.next.unasked}
	}
	for _, pl := range p.places {
		s.Places = append(s.Places, savedPlace{w.save(pl.at), pl.failures})
	}
	for _, slot := range slices.Sorted(maps.Keys(p.members)) {
		s.Members = append(s.Members, p.members[slot].save(w))
	}
	return s
}

func (m *member) save(w watchmaker) savedMember {
	s := savedMember{
		Slot: m.slot, Life: m.life, PID: m.pid, Kind: uint64(m.kind), Generation: m.generation, Phase: m.phase,
		Deadline: w.save(m.deadline), ReadyAt: w.save(m.readyAt), Failures: m.failures,
		Queues: m.queues, Beside: m.beside, Paused: m.paused, Busy: m.busy, Done: m.done,
		IdleSince: w.save(m.idleSince), Asked: m.asked, Evicted: m.evicted, Drains: w.save(m.drains), Sign: w.save(m.sign),
		Pinged: w.save(m.pinged), Expires: w.save(m.expires), End: m.end, Failed: m.failed,
		Lost: map[uint64]time.Duration{}, RevokedFor: m.revokedFor, RevokedJob: m.revokedJob, Late: m.late,
	}
	for serial, at := range m.lost {
		s.Lost[serial] = w.save(at)
	}
	if m.revoked != nil {
		r := m.revoked.save(w)
		s.Revoked = &r
	}
	for _, r := range m.waiting {
		s.Waiting = append(s.Waiting, r.save(w))
	}
	return s
}

func (r revocation) save(w watchmaker) savedRevocation {
	return savedRevocation{r.serial, r.why, r.term, w.save(r.killAt)}
}

func (s savedRevocation) load(w watchmaker) revocation {
	return revocation{s.Serial, s.Why, s.Term, w.load(s.KillAt)}
}

// load puts the pool into the state of the one before it. What this configuration says goes before what that one said, but
// a floor that somebody has moved stays where it is.
func (p *pool) load(s savedPool, w watchmaker) {
	p.booting = false
	p.life, p.generation, p.newest, p.bad = s.Life, s.Generation, s.Newest, s.Bad
	p.prints, p.drained = maps.Clone(s.Prints), s.Drained
	if s.Next != nil {
		p.next = &evReload{cause: s.Next.Cause, auto: s.Next.Auto, unasked: s.Next.Unasked}
	}
	if s.Floor != s.FirstFloor {
		p.floor = min(max(s.Floor, p.leastFloor()), p.maxChildren)
	}
	p.target = min(max(s.Target, p.floor), p.maxChildren)
	if p.mode == Static {
		p.target = p.floor
	}
	p.rolledAt, p.vacant, p.trouble, p.status = w.load(s.RolledAt), s.Vacant, s.Trouble, s.Status
	for _, pl := range s.Places {
		p.places = append(p.places, place{w.load(pl.At), pl.Failures})
	}
	p.dequeue = dequeue{w.load(s.Dequeue.Next), s.Dequeue.Owed, s.Dequeue.Failures}
	for _, m := range s.Members {
		p.members[m.Slot] = m.load(w)
	}
}

func (s savedMember) load(w watchmaker) *member {
	m := &member{
		who: who{s.Slot, s.Life}, pid: s.PID, kind: scoreboard.Kind(s.Kind), generation: s.Generation, phase: s.Phase,
		deadline: w.load(s.Deadline), readyAt: w.load(s.ReadyAt), failures: s.Failures,
		queues: s.Queues, beside: s.Beside, paused: s.Paused, busy: s.Busy, done: s.Done,
		idleSince: w.load(s.IdleSince), asked: s.Asked, evicted: s.Evicted, drains: w.load(s.Drains), sign: w.load(s.Sign),
		pinged: w.load(s.Pinged), expires: w.load(s.Expires), end: s.End, failed: s.Failed,
		lost: map[uint64]time.Time{}, revokedFor: s.RevokedFor, revokedJob: s.RevokedJob, late: s.Late,
	}
	for serial, at := range s.Lost {
		m.lost[serial] = w.load(at)
	}
	if s.Revoked != nil {
		r := s.Revoked.load(w)
		m.revoked = &r
	}
	for _, r := range s.Waiting {
		m.waiting = append(m.waiting, r.load(w))
	}
	return m
}
