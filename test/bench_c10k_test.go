package test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkC10k is what connections cost on which nothing happens, in four children: memory for each, and the time until all
// are answered. The yardstick is one process of package net alone with as many
// connections and the same answers. It has a descriptor for each, so there are a few less than 20,000.
func BenchmarkC10k(b *testing.B) {
	const children = 4
	each := scaled(250, 4900)
	n := children * each
	var ours, yard, oursBefore, yardBefore float64 // KiB
	var took, yardTook times
	for b.Loop() {
		m := openBench(b)
		d, err := m.site.serve(nil, "c10k", fmt.Sprint("-concurrency=", each))
		if err != nil {
			b.Fatal(err)
		}
		pids := []int{}
		for _, p := range m.board(d).serving() {
			pids = append(pids, p.pid)
		}
		if len(pids) != children {
			b.Fatalf("%d children serve, want %d", len(pids), children)
		}
		oursBefore = m.all(pids)
		t, release := m.fill(d.addr, n)
		took = append(took, t)
		ours = m.all(pids)
		release()
		m.stop(d)

		y, err := m.yardstick("lines", nil)
		if err != nil {
			b.Fatal(err)
		}
		yardBefore = m.all([]int{y.process.Pid})
		t, release = m.fill(y.line, n)
		yardTook = append(yardTook, t)
		yard = m.all([]int{y.process.Pid})
		release()
		y.end()
	}
	oursEach, yardEach := (ours-oursBefore)/float64(n), (yard-yardBefore)/float64(n)
	b.ReportMetric(oursEach, "KiB/conn")
	b.ReportMetric(yardEach, "net-KiB/conn")
	b.ReportMetric(oursEach/yardEach, "memory-ratio")
	b.ReportMetric(ms(took.median()), "answered-ms")
	b.ReportMetric(ms(yardTook.median()), "net-answered-ms")
	b.ReportMetric(float64(took.median())/float64(yardTook.median()), "time-ratio")
	b.ReportMetric(0, "ns/op")
	b.Logf("%d connections; children %.0f KiB before and %.0f KiB with them, package net %.0f and %.0f",
		n, oursBefore, ours, yardBefore, yard)
}

// all returns the sum of the processes' proportional set sizes in KiB.
func (m *bench) all(pids []int) (sum float64) {
	m.b.Helper()
	for _, pid := range pids {
		sum += float64(m.pss(pid))
	}
	return sum
}

// fill has n connections opened from two client processes and returns how long it took until all are answered.
func (m *bench) fill(addr string, n int) (took time.Duration, release func()) {
	m.b.Helper()
	var holders []*holder
	begun := time.Now()
	for i := range 2 {
		h, err := m.site.hold(addr, fmt.Sprintf("127.0.1.%d", i+1), n/2)
		if err != nil {
			m.b.Fatal(err)
		}
		holders = append(holders, h)
	}
	for _, h := range holders {
		if err := h.held(); err != nil {
			m.b.Fatal(err)
		}
	}
	return time.Since(begun), func() {
		for _, h := range holders {
			h.say.Close()
			h.cmd.Wait()
		}
	}
}
