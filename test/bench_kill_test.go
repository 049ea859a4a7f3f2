package test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkKill kills a child every 200 ms while 200 clients a second connect, and waits until as many serve as before. The
// yardstick is a bare start of the same program under the same load, halfway between two kills.
func BenchmarkKill(b *testing.B) {
	m := openBench(b)
	const (
		children = 8
		every    = 200 * time.Millisecond
	)
	ln := m.listener()
	var ours, yard times
	for b.Loop() {
		d := m.serve("-prefork", strconv.Itoa(children))
		board := m.board(d)
		st := startStream(d.addr + "/?for=5ms")
		m.undo = append(m.undo, st.end)
		var kills []span
		tick := time.NewTicker(every / 2)
		for i := range scaled(10, 50) {
			<-tick.C
			all := board.serving()
			if len(all) != children {
				b.Logf("kill %d: %d children serve, want %d", i+1, len(all), children)
				continue
			}
			// Clients come at even moments, deaths do not.
			time.Sleep(time.Duration(rand.Int64N(int64(2 * streamEvery))))
			pid := all[rand.IntN(children)].pid
			k := span{begun: time.Now()}
			if err := kill(pid, syscall.SIGKILL); err != nil {
				b.Fatal(err)
			}
			k.end = time.Now()
			kills = append(kills, k)
			if err := board.full(children, map[int]bool{pid: true}); err != nil {
				b.Fatal(err)
			}
			ours = append(ours, time.Since(k.begun))
			<-tick.C
			yard = append(yard, m.bare(ln))
		}
		tick.Stop()
		st.end()
		st.judge(b, kills)
		m.noZombies(d)
		m.stop(d)
	}
	m.compare("full again after a kill: at most 3 times a bare start", ours, "bare", yard)
}

// noZombies reports children of the daemon that have ended and that it does not reap.
func (m *bench) noZombies(d *server) {
	m.b.Helper()
	if err := eventually(patience, func() error {
		for _, p := range childrenOf(d.pid) {
			if p.state == 'Z' {
				return fmt.Errorf("%v is a zombie", p)
			}
		}
		return nil
	}); err != nil {
		m.b.Error(err)
	}
}

// A span is when something began and ended: a request or a kill.
type span struct {
	begun, end time.Time
	err        error
}

// A stream is 200 clients a second, who come whether or not the others have been served.
type stream struct {
	url     string
	stop    chan struct{}
	once    sync.Once
	clients sync.WaitGroup

	mu   sync.Mutex
	done []span
}

const streamEvery = 5 * time.Millisecond

func startStream(url string) *stream {
	st := &stream{url: url, stop: make(chan struct{})}
	st.clients.Go(func() {
		tick := time.NewTicker(streamEvery)
		defer tick.Stop()
		for {
			select {
			case <-st.stop:
				return
			case <-tick.C:
				st.clients.Go(st.client)
			}
		}
	})
	return st
}

func (st *stream) client() {
	r := span{begun: time.Now()}
	_, r.err = get(st.url)
	r.end = time.Now()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.done = append(st.done, r)
}

// end lets the clients finish who are there.
func (st *stream) end() {
	st.once.Do(func() { close(st.stop) })
	st.clients.Wait()
}

// broken reports whether a connection ended as it does when the process at its other end dies.
func broken(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// judge finds the failures that no kill explains: each kill may take one request with it, one that was under way and whose
// connection it broke.
func (st *stream) judge(b *testing.B, kills []span) {
	slices.SortFunc(st.done, func(x, y span) int { return x.end.Compare(y.end) })
	left := slices.Clone(kills)
	failed := 0
	var took times
	for _, r := range st.done {
		took = append(took, r.end.Sub(r.begun))
		if r.err == nil {
			continue
		}
		failed++
		i := slices.IndexFunc(left, func(k span) bool { return !r.begun.After(k.end) && !r.end.Before(k.begun) })
		if i < 0 || !broken(r.err) {
			b.Errorf("a request of %v that ended at %s is lost, and no child was killed that may have had it: %v",
				r.end.Sub(r.begun), r.end.UTC().Format("15:04:05.000"), r.err)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	b.ReportMetric(float64(failed)/float64(len(kills)), "failed/kill")
	b.Logf("%d kills, %d requests, %d failed with the child that had them; requests: %v", len(kills), len(st.done), failed, took)
}
