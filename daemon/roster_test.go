package daemon

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// Whatever ends when, the oldest job is the one with the smallest number.
func TestRoster(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := &Child{jobs: map[uint64]*Job{}}
		for range 500 {
			if n := len(c.jobs); n == 0 || n < 40 && r.IntN(2) == 0 {
				c.serial++
				c.enlist(&Job{serial: c.serial})
			} else {
				running := slices.Sorted(maps.Keys(c.jobs))
				c.strike(c.jobs[running[r.IntN(n)]])
			}
			var listed []uint64
			for j := c.oldest; j != nil; j = j.newer {
				listed = append(listed, j.serial)
				if j.newer == nil && j != c.newest {
					t.Fatalf("seed %d: job %d is the last of the list, and not the newest", seed, j.serial)
				}
			}
			if running := slices.Sorted(maps.Keys(c.jobs)); !slices.Equal(listed, running) {
				t.Fatalf("seed %d: %v run, and the list has %v", seed, running, listed)
			}
			if len(c.jobs) == 0 && c.newest != nil {
				t.Fatalf("seed %d: nobody runs, and job %d is the newest", seed, c.newest.serial)
			}
		}
	}
}
