package test

import (
	"testing"
	"time"
)

// BenchmarkBell is the way from the last idle child becoming busy to one more child that is ready. Both moments are the
// children's own notes on the scoreboard, so nothing is lost in looking. The yardstick is the same program, executed with a
// listener, until it has said that it is ready; it takes its turn while the next growth is waited for.
func BenchmarkBell(b *testing.B) {
	m := openBench(b)
	ln := m.listener()
	var ours, yard times
	for b.Loop() {
		d := m.serve("-pool", "dynamic", "-prefork", "1", "-max-children", "50")
		board := m.board(d)
		for range scaled(5, 20) {
			ours = append(ours, m.bell(d, board))
			// A growth that follows another within a second starts more than one child.
			for begun := time.Now(); time.Since(begun) < 1100*time.Millisecond; time.Sleep(100 * time.Millisecond) {
				yard = append(yard, m.bare(ln))
			}
		}
		m.stop(d)
	}
	m.compare("a child more: at most 1.5 times a bare start", ours, "bare", yard)
}

// bell makes the last idle child busy for the rest of the benchmark.
func (m *bench) bell(d *server, board *board) time.Duration {
	m.b.Helper()
	before := map[int]bool{}
	idle := 0
	for _, p := range board.serving() {
		before[p.pid] = true
		if p.state == '_' {
			idle = p.pid
		}
	}
	v, err := ask(d.addr + "/?for=5m")
	if err != nil {
		m.b.Fatal(err)
	}
	m.undo = append(m.undo, func() { v.conn.Close() })
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(boardPause) {
		var busy, ready int64
		for _, p := range board.serving() {
			switch {
			case p.pid == idle:
				busy = p.started
			case !before[p.pid] && p.state == '_':
				ready = p.since
			}
		}
		if busy != 0 && ready != 0 {
			return time.Duration(ready - busy)
		}
	}
	m.b.Fatal("nobody came when the last idle child became busy")
	return 0
}
