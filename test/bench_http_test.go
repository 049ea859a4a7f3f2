package test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkHTTP is how many requests on kept connections two children answer with serve.HTTP, beside two processes of net/http
// alone that share a socket, and how much processor time each request takes them. Goal: at least 0.95 of the yardstick, in the median round.
func BenchmarkHTTP(b *testing.B) {
	const clients, rounds = 16, 61 // short ones: what else the machine does falls on both
	took := time.Duration(scaled(50, 150)) * time.Millisecond
	var ours, yard, shares, oursCost, yardCost []float64
	for b.Loop() {
		m := openBench(b)
		d := m.serve("-prefork", "2", "-pool", "static", "-concurrency", "64")
		var children, plain []int
		for _, p := range m.board(d).serving() {
			children = append(children, p.pid)
		}
		ln := m.listener()
		for range 2 {
			y, err := m.yardstick("served", ln)
			if err != nil {
				b.Fatal(err)
			}
			defer y.end()
			plain = append(plain, y.process.Pid)
		}
		shared, err := net.FileListener(ln)
		if err != nil {
			b.Fatal(err)
		}
		addr := shared.Addr().String()
		shared.Close()
		servers := []struct {
			addr string
			pids []int
		}{{d.addr, children}, {addr, plain}}
		for range rounds {
			var rate, cost [2]float64
			for _, i := range rand.Perm(len(servers)) { // neither is to come first always
				rate[i], cost[i] = m.rate(servers[i].addr, servers[i].pids, clients, took)
			}
			ours, yard, shares = append(ours, rate[0]), append(yard, rate[1]), append(shares, rate[0]/rate[1])
			oursCost, yardCost = append(oursCost, cost[0]), append(yardCost, cost[1])
		}
		m.stop(d)
	}
	for _, all := range [][]float64{ours, yard, shares, oursCost, yardCost} {
		slices.Sort(all)
	}
	middle := len(ours) / 2
	b.ReportMetric(ours[middle], "requests/s")
	b.ReportMetric(yard[middle], "net-requests/s")
	b.ReportMetric(shares[middle], "ratio") // of one round, in which the machine is as fast for both
	b.ReportMetric(oursCost[middle], "µs/request")
	b.ReportMetric(yardCost[middle], "net-µs/request")
	b.ReportMetric(0, "ns/op")
	b.Logf("goal: at least 0.95; requests a second %.0f, net/http %.0f", ours, yard)
}

// rate has clients ask for so long and returns how many requests were answered each second, and how many microseconds of
// processor time each of them took the processes that answered.
func (m *bench) rate(addr string, pids []int, clients int, d time.Duration) (rate, cost float64) {
	m.b.Helper()
	counts, errs := make([]int, clients), make([]error, clients)
	var wg sync.WaitGroup
	before, begun := m.used(pids), time.Now()
	for i := range clients {
		wg.Go(func() { counts[i], errs[i] = askFor(addr, begun.Add(d)) })
	}
	wg.Wait()
	used, took := m.used(pids)-before, time.Since(begun)
	n := 0
	for i := range clients {
		if errs[i] != nil {
			m.b.Fatal(errs[i])
		}
		n += counts[i]
	}
	return float64(n) / took.Seconds(), float64(used.Microseconds()) / float64(n)
}

// askFor asks on one connection until then. The first answer tells how long all are.
func askFor(addr string, then time.Time) (n int, err error) {
	c, err := dial(addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	request := []byte("GET / HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")
	count := &countingReader{Reader: c}
	var answer []byte
	for ; time.Now().Before(then); n++ {
		if _, err := c.Write(request); err != nil {
			return n, err
		}
		if answer != nil {
			if _, err := io.ReadFull(c, answer); err != nil {
				return n, err
			}
			continue
		}
		resp, err := http.ReadResponse(bufio.NewReader(count), nil)
		if err != nil {
			return n, err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return n, err
		}
		if resp.StatusCode != 200 || resp.Close {
			return n, fmt.Errorf("%s, close %v", resp.Status, resp.Close)
		}
		answer = make([]byte, count.n)
	}
	return n, nil
}

// A countingReader counts what is read.
type countingReader struct {
	io.Reader
	n int
}

func (r *countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n += n
	return n, err
}
