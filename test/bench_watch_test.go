package test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// watchTime is how long processor time is counted.
	watchTime = 10 * time.Second
	// watchSettle comes before that: a look at so many new connections takes some 30 ms, and the next one waits 250 times as
	// long.
	watchSettle = 10 * time.Second
)

// BenchmarkWatch is what it costs to watch 10,000 connections: the processor time of the parent and the children together,
// while nobody is busy, and while one job runs among them. The yardstick is a plain process of net/http that holds as
// many.
func BenchmarkWatch(b *testing.B) {
	m := openBench(b)
	const children, connections = 4, 10_000
	plain, err := m.yardstick("plain", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer plain.end()
	var idle, busy, bare float64
	for b.Loop() {
		func() {
			defer m.hold(plain.line, connections)()
			bare = m.load([]int{plain.process.Pid})
		}()
		d := m.serve("-prefork", strconv.Itoa(children), "-concurrency", strconv.Itoa(connections))
		pids := []int{d.pid}
		for _, p := range m.board(d).serving() {
			pids = append(pids, p.pid)
		}
		release := m.hold(d.addr, connections)
		idle = m.load(pids)
		v, err := ask(d.addr + "/?for=60s")
		if err != nil {
			b.Fatal(err)
		}
		busy = m.load(pids)
		v.conn.Close()
		release()
		m.stop(d)
	}
	b.ReportMetric(idle, "idle-%")
	b.ReportMetric(busy, "busy-%")
	b.ReportMetric(bare, "nethttp-%")
	b.ReportMetric(0, "ns/op")
	b.Logf("goal: less than 0.5%% of a core with %d connections; idle %.3f%%, with one job %.3f%%, net/http %.3f%%", connections, idle, busy, bare)
}

// hold opens kept connections, each with one answer behind it, and returns what closes them.
func (m *bench) hold(addr string, n int) (release func()) {
	m.b.Helper()
	visits := make([]*visit, n)
	release = func() {
		for _, v := range visits {
			if v != nil {
				v.conn.Close()
			}
		}
	}
	var wg sync.WaitGroup
	const clients = 20
	failed := make(chan error, clients)
	for c := range clients {
		wg.Go(func() {
			for i := c; i < n; i += clients {
				v, err := visitTo(addr)
				if err == nil {
					visits[i] = v
					err = v.send("/")
				}
				if err == nil {
					_, err = v.answer()
				}
				if err == nil {
					err = v.conn.SetDeadline(time.Time{})
				}
				if err != nil {
					failed <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		release()
		m.b.Fatal(err)
	default:
	}
	return release
}

// load returns the share of a core that processes use, in per cent.
func (m *bench) load(pids []int) float64 {
	m.b.Helper()
	time.Sleep(watchSettle)
	before, begun := m.used(pids), time.Now()
	time.Sleep(watchTime)
	return 100 * float64(m.used(pids)-before) / float64(time.Since(begun))
}

// used returns the processor time that processes have used.
func (m *bench) used(pids []int) (sum time.Duration) {
	m.b.Helper()
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			m.b.Fatal(err)
		}
		for _, task := range tasks {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
			if err != nil {
				continue // the thread has ended
			}
			ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
			if err != nil {
				m.b.Fatal(err)
			}
			sum += time.Duration(ns)
		}
	}
	return sum
}
