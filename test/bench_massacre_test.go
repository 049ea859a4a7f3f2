package test

import (
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// BenchmarkMassacre kills a hundred children at once and waits until a hundred serve again. The yardstick is a hundred bare
// starts of the same program, as many at a time as the daemon starts at once. They have no corpses to clear away.
func BenchmarkMassacre(b *testing.B) {
	m := openBench(b)
	const children = 100
	parallel := 2 * runtime.GOMAXPROCS(0)
	var ours, yard times
	for b.Loop() {
		for range scaled(2, 5) {
			d := m.serve("-prefork", strconv.Itoa(children))
			board := m.board(d)
			dead := map[int]bool{}
			for _, p := range board.serving() {
				dead[p.pid] = true
			}
			begun := time.Now()
			for pid := range dead {
				if err := kill(pid, syscall.SIGKILL); err != nil {
					b.Fatal(err)
				}
			}
			if err := board.full(children, dead); err != nil {
				b.Fatal(err)
			}
			ours = append(ours, time.Since(begun))
			m.noZombies(d)
			m.stop(d)

			bare, took := m.bareCrowd(children, parallel)
			yard = append(yard, took)
			for _, y := range bare {
				y.end()
			}
		}
	}
	m.compare("100 children killed at once: full again within 1000 ms", ours, "bare", yard)
}
