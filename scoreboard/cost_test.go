package scoreboard

import (
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A cost is what something takes, beside what it is measured against, in the same run: times move from machine to machine, and with
// whatever else runs there.
type cost struct{ ours, yard []time.Duration }

// rounds of both, by turns, each of them of n calls.
func costOf(b *testing.B, n int, ours, yard func()) cost {
	var c cost
	timed := func(f func()) time.Duration {
		begun := time.Now()
		for range n {
			f()
		}
		return time.Since(begun)
	}
	for b.Loop() {
		c.ours, c.yard = append(c.ours, timed(ours)), append(c.yard, timed(yard))
	}
	slices.Sort(c.ours)
	slices.Sort(c.yard)
	per := func(all []time.Duration) float64 { return float64(all[len(all)/2].Nanoseconds()) / float64(n) }
	b.ReportMetric(per(c.ours), "op-ns")
	b.ReportMetric(per(c.yard), "yard-ns")
	b.ReportMetric(0, "ns/op") // of both together: means nothing
	b.ReportMetric(float64(testing.AllocsPerRun(100, ours)), "op-allocs")
	return c
}

// ratio is that of the medians.
func (c cost) ratio() float64 {
	return float64(c.ours[len(c.ours)/2]) / float64(c.yard[len(c.yard)/2])
}

// BenchmarkStamped is a child that says that it is busy, or idle, since now, beside the clock alone: at most 1.3 times as long, without
// an allocation and without a system call.
func BenchmarkStamped(b *testing.B) {
	s := attach(b, inMemory(b, 150), 70)
	var last time.Time
	c := costOf(b, 1000, func() { s.SetState(Working, time.Now()) }, func() { last = time.Now() })
	_ = last
	b.ReportMetric(c.ratio(), "clocks/op")
}

// BenchmarkSnapshot is a child's look at the states of 150 others: at most 5 µs.
func BenchmarkSnapshot(b *testing.B) {
	board := inMemory(b, 150)
	for slot := range 150 {
		must(b, board.Bear(slot, Serve, 1, "start", time.Now()))
		must(b, board.SetPhase(slot, PhaseServing))
		attach(b, board, slot).SetState(Working, time.Now())
	}
	s := attach(b, board, 70)
	var last time.Time
	costOf(b, 100, func() { s.spare(151) }, func() { last = time.Now() })
	_ = last
}

// BenchmarkLocked is the same word for a busy child as a scoreboard of other daemons has it, a record in a file under a lock, beside
// ours: at least 50 times as long.
func BenchmarkLocked(b *testing.B) {
	board := inMemory(b, 150)
	s := attach(b, board, 70)
	f, err := os.OpenFile(board.path+".locked", os.O_RDWR|os.O_CREATE, 0o600)
	must(b, err)
	defer os.Remove(f.Name())
	defer f.Close()
	fd := int(f.Fd())
	var record [SlotSize]byte
	now := time.Now()
	c := costOf(b, 100, func() { s.SetState(Working, now) }, func() {
		unix.Flock(fd, unix.LOCK_EX)
		unix.Pwrite(fd, record[:64], 70*64)
		unix.Flock(fd, unix.LOCK_UN)
	})
	b.ReportMetric(1/c.ratio(), "locked/op")
}
