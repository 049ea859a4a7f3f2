package daemon

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Whatever ends when, the oldest job is the one with the smallest number.
func TestJobList(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		var jobs jobList
		var running, ended []*Job
		for serial := range uint64(500) {
			if n := len(running); n == 0 || n < 40 && r.IntN(2) == 0 {
				j := &Job{serial: serial + 1}
				jobs.add(j)
				running = append(running, j)
			} else {
				i := r.IntN(n)
				jobs.remove(running[i])
				ended = append(ended, running[i])
				running = slices.Delete(running, i, i+1)
			}
			if listed := slices.Collect(jobs.all()); !slices.Equal(listed, running) || jobs.n != len(running) {
				t.Fatalf("seed %d: %d jobs run, and the list has %d of %d", seed, len(running), len(listed), jobs.n)
			}
			for _, j := range running {
				if jobs.find(j.serial) != j || !jobs.has(j) {
					t.Fatalf("seed %d: job %d is not found", seed, j.serial)
				}
			}
			for _, j := range ended {
				if jobs.find(j.serial) != nil || jobs.has(j) {
					t.Fatalf("seed %d: job %d is found, and has ended", seed, j.serial)
				}
			}
			if n := len(running); n > 0 && (jobs.newest != running[n-1] || jobs.oldest != running[0]) || n == 0 && (jobs.newest != nil || jobs.oldest != nil) {
				t.Fatalf("seed %d: the ends of the list are not its ends", seed)
			}
		}
	}
}
