package test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkBurst is three children and forty clients who come at once, each with a job of a second. The yardstick is
// net/http, which has nothing to start: a goroutine for each. With TCP the daemon looks at its connections four times a
// second, and then sees, too, that somebody waits; with a Unix socket only the children tell it.
func BenchmarkBurst(b *testing.B) {
	b.Run("tcp", func(b *testing.B) { burst(b, "127.0.0.1:0") })
	b.Run("unix", func(b *testing.B) { burst(b, "unix:"+filepath.Join(root, "burst")) })
}

func burst(b *testing.B, listen string) {
	m := openBench(b)
	const job = "/?for=1s"
	plain, err := m.yardstick("plain", nil)
	if err != nil {
		b.Fatal(err)
	}
	m.undo = append(m.undo, plain.end)
	var ours, yard times
	for b.Loop() {
		for range scaled(2, 10) {
			d := m.serve("-pool", "dynamic", "-prefork", "3", "-max-children", "50", "-listen", listen)
			url := d.addr + job
			if path, ok := strings.CutPrefix(listen, "unix:"); ok {
				url = path + ":" + job
			}
			yard = append(yard, m.burst(plain.line+job))
			ours = append(ours, m.burst(url))
			m.stop(d)
		}
	}
	m.compare("40 jobs of 1 s from 3 children: at most 1.15 times net/http", ours, "nethttp", yard)
	// A child that is asked for too late does not show in the median.
	b.ReportMetric(float64(ours.at(1))/float64(yard.median()), "worst-ratio")
}

// burst returns how long it takes until every client has its answer.
func (m *bench) burst(url string) time.Duration {
	m.b.Helper()
	const clients = 40
	errs := make([]error, clients)
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range clients {
		wg.Go(func() { _, errs[i] = get(url) })
	}
	wg.Wait()
	took := time.Since(begun)
	for _, err := range errs {
		if err != nil {
			m.b.Errorf("a request is lost: %v", err)
		}
	}
	return took
}
