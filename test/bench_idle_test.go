package test

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkIdle is what 150 children cost that have nothing to do: memory, and wake-ups of the parent and the children
// together. The yardstick for the memory is 150 processes of the same file with the same settings that accept on a shared
// socket as a plain Go program does. They are measured after the daemon has stopped: pages that all processes of a file
// share count for each by its part, so there must be as many sharers.
func BenchmarkIdle(b *testing.B) {
	m := openBench(b)
	const children = 150
	var ours, yard float64
	var wakes, bareWakes float64
	for b.Loop() {
		d := m.serve("-prefork", strconv.Itoa(children))
		pids := []int{}
		for _, p := range m.board(d).serving() {
			pids = append(pids, p.pid)
		}
		if len(pids) != children {
			b.Fatalf("%d children serve, want %d", len(pids), children)
		}
		wakes = m.wakeUps(append(pids, d.pid))
		ours = m.memory(pids)
		m.stop(d)

		bare, _ := m.bareCrowd(children, 4)
		pids = pids[:0]
		for _, y := range bare {
			pids = append(pids, y.process.Pid)
		}
		bareWakes = m.wakeUps(pids)
		yard = m.memory(pids)
		for _, y := range bare {
			y.end()
		}
	}
	b.ReportMetric(ours/yard, "ratio")
	b.ReportMetric(ours, "brood-KiB")
	b.ReportMetric(yard, "bare-KiB")
	b.ReportMetric(wakes, "wakes/s")
	b.ReportMetric(bareWakes, "bare-wakes/s")
	b.ReportMetric(0, "ns/op")
	b.Logf("goals: memory of an idle child at most 1.3 times that of a bare process, ratio %.2f; fewer than 2 wake-ups a second, %.1f",
		ours/yard, wakes)
}

// memory returns the median of the processes' proportional set sizes in KiB.
func (m *bench) memory(pids []int) float64 {
	m.b.Helper()
	var all []int
	for _, pid := range pids {
		all = append(all, m.pss(pid))
	}
	slices.Sort(all)
	return float64(all[len(all)/2])
}

// pss returns a process's proportional set size in KiB.
func (m *bench) pss(pid int) int {
	m.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		m.b.Fatal(err)
	}
	kib, err := strconv.Atoi(strings.TrimSuffix(field(text, "Pss:"), " kB"))
	if err != nil {
		m.b.Fatal(err)
	}
	return kib
}

// field returns the value of a line of a file in /proc.
func field(text []byte, name string) string {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}

// settle is how long processes are left alone before their wake-ups are counted: the runtime's own background work after
// a start comes to its end.
const settle = 3 * time.Second

// wakeUps returns how often a second the processes wake up, and logs who did most.
func (m *bench) wakeUps(pids []int) float64 {
	m.b.Helper()
	time.Sleep(settle)
	before := m.switches(pids)
	begun := time.Now()
	time.Sleep(time.Duration(scaled(5, 10)) * time.Second)
	after := m.switches(pids)
	took := time.Since(begun)
	sum := 0
	type waker struct {
		name  string
		times int
	}
	var all []waker
	for name, n := range after {
		if n -= before[name]; n > 0 {
			sum += n
			all = append(all, waker{name, n})
		}
	}
	slices.SortFunc(all, func(x, y waker) int { return cmp.Compare(y.times, x.times) })
	m.b.Logf("%d wake-ups in %v, by process, name and thread: %v", sum, took.Round(time.Millisecond), all[:min(len(all), 10)])
	return float64(sum) / took.Seconds()
}

// switches returns how often each thread has gone to sleep so far.
func (m *bench) switches(pids []int) map[string]int {
	m.b.Helper()
	n := map[string]int{}
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/task", pid)
		threads, err := os.ReadDir(dir)
		if err != nil {
			m.b.Fatal(err)
		}
		for _, t := range threads {
			text, err := os.ReadFile(dir + "/" + t.Name() + "/status")
			if err != nil {
				continue // it has ended
			}
			count, err := strconv.Atoi(field(text, "voluntary_ctxt_switches:"))
			if err != nil {
				m.b.Fatal(err)
			}
			n[fmt.Sprintf("%d %s/%s", pid, field(text, "Name:"), t.Name())] = count
		}
	}
	return n
}
