package scoreboard

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// jobsRole works on one short job after the other, by the rules: it says that a job is over before it looks whether that
// job has been revoked, and begins no other while it is.
func jobsRole(s *Slot) {
	for serial := uint64(1); ; serial++ {
		s.SetWork(Work{State: Working, Running: 1, Job: Record{Serial: serial}})
		spin(rand.Uint64N(1 << rand.Uint64N(17)))
		s.SetWork(Work{State: Idle})
		for s.Revoked() == serial {
			runtime.Gosched()
		}
	}
}

// The parent revokes a job that may just be ending. If it finds the child in that job afterwards, the child goes on to no
// other until the matter is settled, so a signal cannot hit the next job.
func TestRevoke(t *testing.T) {
	b := inMemory(t, 1)
	spawn(t, b, 0, "jobs")
	hits, misses, begun := 0, 0, time.Now()
	enough := func() bool { return hits >= 100 && misses >= 100 }
	for another(hits+misses, 100_000, begun, enough()) {
		job := hintOf(t, b, 0).Serial
		if job == 0 {
			continue
		}
		must(t, b.SetRevoked(0, job))
		if hintOf(t, b, 0).Serial != job {
			misses++
			must(t, b.SetRevoked(0, 0))
			continue
		}
		hits++
		for waiting := 0; waiting < 10; {
			switch now := hintOf(t, b, 0).Serial; now {
			case job:
				if time.Since(begun) > 2*tooLong {
					t.Fatalf("job %d does not end", job)
				}
			case 0:
				waiting++
			default:
				t.Fatalf("job %d was revoked while it ran, and the child has gone on to job %d", job, now)
			}
		}
		must(t, b.SetRevoked(0, 0))
	}
	t.Logf("in %d of %d tries the job still ran", hits, hits+misses)
	if !enough() {
		t.Errorf("in %d of %d tries the job still ran: want a hundred of both kinds", hits, hits+misses)
	}
}

// settle is the answer to a round: the bit keeps it apart from the round itself.
const settle = 1 << 63

// ringsRole becomes busy once in every round, and says whether it was asked to ring. Round and answer go through the words
// of the board itself, because a pipe would bring both processes out of step.
func ringsRole(s *Slot) {
	await := func(v uint64) {
		for s.Revoked() != v {
			runtime.Gosched()
		}
	}
	for round := uint64(1); ; round++ {
		await(round)
		spin(rand.Uint64N(1000))
		s.SetState(Working, time.Unix(0, 1))
		rang := 0
		if s.Attention() {
			rang = 1
		}
		s.SetWork(Work{State: Working, Running: rang, Job: Record{Serial: round}})
		await(round | settle)
		s.SetWork(Work{State: Idle, Job: Record{Serial: round | settle}})
	}
}

// The parent asks to be rung for and looks once more before it sleeps. Whenever a child becomes busy, it is seen or it
// rings.
func TestRing(t *testing.T) {
	b := inMemory(t, 1)
	spawn(t, b, 0, "rings")
	begun := time.Now()
	answer := func(v uint64) Hint {
		for {
			if h := hintOf(t, b, 0); h.Serial == v {
				return h
			}
			if time.Since(begun) > 2*tooLong {
				t.Fatalf("no answer in round %d", v&^settle)
			}
		}
	}
	pause := inMemory(t, 1)
	seen, rung, round := 0, 0, uint64(0)
	enough := func() bool { return seen >= 10 && rung >= 10 }
	for another(int(round), 50_000, begun, enough()) {
		round++
		must(t, b.SetRevoked(0, round))
		for range rand.Uint64N(4) {
			hintOf(t, pause, 0)
		}
		must(t, b.SetAttention(Attention{Busy: true}))
		busy := hintOf(t, b, 0).State.Busy()
		rang := answer(round).Running == 1
		if !busy && !rang {
			t.Fatalf("round %d: the child became busy, was not seen and did not ring", round)
		}
		if busy {
			seen++
		}
		if rang {
			rung++
		}
		must(t, b.SetAttention(Attention{}))
		must(t, b.SetRevoked(0, round|settle))
		answer(round | settle)
	}
	t.Logf("of %d rounds %d were seen, %d rung", round, seen, rung)
	if !enough() {
		t.Errorf("of %d rounds %d were seen, %d rung: want some of both kinds", round, seen, rung)
	}
}
