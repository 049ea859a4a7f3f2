package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	// reloadEvery is also how long a period of the benchmark is.
	reloadEvery = 2 * time.Second
	// reloadPause lies between two looks at the board.
	reloadPause = 500 * time.Microsecond
)

// BenchmarkReload reloads a daemon again and again, with two builds that take turns, while 500 clients a second connect and
// 16 keep their connections. Not one request may fail. Periods with a reload and without one alternate, so that both meet the
// same machine: the yardstick of how long requests take is the daemon that is left alone. The yardstick of how long it
// takes until all children are new is the start of one child by this daemon, and a bare start of the same program, under the
// same load, for each step: the first child alone, then a tenth of all at a time.
func BenchmarkReload(b *testing.B) { // B23
	b.Run("3 children", func(b *testing.B) { reloads(b, 3) })
	b.Run("30 children", func(b *testing.B) { reloads(b, 30) })
}

func reloads(b *testing.B, children int) {
	m := openBench(b)
	r := &reloading{bench: m, children: children, ln: m.listener(), program: filepath.Join(m.dir, "prog")}
	r.build()
	var all []arrival
	var periods []period
	for b.Loop() {
		r.install()
		var err error
		r.daemon, err = m.site.serve(nil, r.program, "-prefork", strconv.Itoa(children), "-concurrency", "8", "-soak", "500ms",
			"-auto-reload-when", "never")
		if err != nil {
			b.Fatal(err)
		}
		r.board = m.board(r.daemon)
		tr := startTraffic(r.daemon.addr + "/?for=1ms")
		m.undo = append(m.undo, tr.end)
		time.Sleep(reloadEvery / 2) // connections are there, pages are touched
		for range scaled(3, 10) {
			periods = append(periods, r.period(r.calm), r.period(r.reload), r.period(r.reload))
			r.bareStarts()
			r.ownStart()
		}
		tr.end()
		all = append(all, tr.done...)
		m.noZombies(r.daemon)
		m.stop(r.daemon)
	}
	r.report(all, periods)
}

// A reloading is the benchmark under way.
type reloading struct {
	*bench
	children int
	ln       *os.File
	builds   []string
	turn     int    // of the builds
	program  string // where the daemon finds it
	daemon   *server
	board    *board
	renewals times // from the signal until all children are new
	starts   times // of bare processes
	own      times // of children, one by one
}

// A period is a part of the benchmark in which something is done, or nothing.
type period struct {
	begun, end time.Time
	reload     bool // or an upgrade
}

// build builds the two programs that take turns.
func (r *reloading) build() {
	for _, build := range []string{"A", "B"} {
		path := filepath.Join(root, "bench-"+build)
		if !exists(path) {
			if err := goBuild(path, "-X main.build="+build, "./test/daemons/bench"); err != nil {
				r.b.Fatal(err)
			}
		}
		r.builds = append(r.builds, path)
	}
}

func (r *reloading) period(what func() bool) period { return r.lasting(reloadEvery, what) }

func (r *reloading) lasting(d time.Duration, what func() bool) period {
	p := period{begun: time.Now()}
	p.reload = what()
	time.Sleep(time.Until(p.begun.Add(d)))
	p.end = time.Now()
	return p
}

func (r *reloading) calm() bool { return false }

// reload makes all children change over.
func (r *reloading) reload() bool {
	r.install()
	next := r.board.generation() + 1
	begun := time.Now()
	if err := kill(r.daemon.pid, syscall.SIGHUP); err != nil {
		r.b.Fatal(err)
	}
	if err := r.board.renewed(next, r.children, reloadPause); err != nil {
		r.b.Fatal(err)
	}
	r.renewals = append(r.renewals, time.Since(begun))
	return true
}

// install puts the other build in place, as a deploy does, without copying it.
func (r *reloading) install() {
	next := r.program + ".new"
	err := os.Link(r.builds[r.turn%len(r.builds)], next)
	if err == nil {
		err = os.Rename(next, r.program)
	}
	if err != nil {
		r.b.Fatal(err)
	}
	r.turn++
}

// bareStarts takes place between the periods, so that it is in nobody's way.
func (r *reloading) bareStarts() {
	for range 5 {
		r.starts = append(r.starts, r.bare(r.ln))
	}
}

// ownStart has the daemon start one child more, and then have one less.
func (r *reloading) ownStart() {
	scale := func(sig syscall.Signal, n int) time.Duration {
		begun := time.Now()
		if err := kill(r.daemon.pid, sig); err != nil {
			r.b.Fatal(err)
		}
		for deadline := begun.Add(patience); len(r.board.serving()) != n; time.Sleep(reloadPause) {
			if time.Now().After(deadline) {
				r.b.Fatalf("%d children serve, want %d", len(r.board.serving()), n)
			}
		}
		return time.Since(begun)
	}
	r.own = append(r.own, scale(syscall.SIGTTIN, r.children+1))
	scale(syscall.SIGTTOU, r.children)
}

// steps is how many times one waits for children to start.
func (r *reloading) steps() int {
	atOnce := max(1, r.children/10)
	return 1 + (r.children-1+atOnce-1)/atOnce
}

func (r *reloading) report(all []arrival, periods []period) {
	split := map[sample]times{}
	each := make([]times, len(periods))
	failed := 0
	for _, a := range all {
		if a.err != nil {
			failed++
			r.b.Errorf("a request planned for %s is lost after %v (on a kept connection: %v): %v",
				a.at.UTC().Format("15:04:05.000"), a.took, a.kept, a.err)
			continue
		}
		i := slices.IndexFunc(periods, func(p period) bool { return !a.at.Before(p.begun) && a.at.Before(p.end) })
		if i < 0 {
			continue
		}
		k := sample{periods[i].reload, a.kept}
		split[k], each[i] = append(split[k], a.took), append(each[i], a.took)
	}
	// The p99 of all requests is that of the machine's worst moments; that of each period shows what the others were like.
	tail := map[bool]times{}
	for i, p := range periods {
		tail[p.reload] = append(tail[p.reload], each[i].at(0.99))
	}
	with := append(split[sample{true, false}], split[sample{true, true}]...)
	without := append(split[sample{false, false}], split[sample{false, true}]...)
	steps := r.steps()
	floor := r.starts.median() * time.Duration(steps)
	ratio := func(a, b time.Duration) float64 { return float64(a) / float64(b) }
	r.b.ReportMetric(float64(failed), "failed")
	r.b.ReportMetric(ratio(with.at(0.99), without.at(0.99)), "p99-ratio")
	r.b.ReportMetric(ratio(tail[true].median(), tail[false].median()), "period-p99-ratio")
	r.b.ReportMetric(ms(with.at(0.99)), "p99-ms")
	r.b.ReportMetric(ms(without.at(0.99)), "calm-p99-ms")
	r.b.ReportMetric(ratio(r.renewals.median(), floor), "renewal-ratio")
	r.b.ReportMetric(ratio(r.renewals.at(1), floor), "worst-renewal-ratio")
	r.b.ReportMetric(ratio(r.renewals.median(), r.own.median()*time.Duration(steps)), "renewal-own-ratio")
	r.b.ReportMetric(ms(r.renewals.median()), "renewal-ms")
	r.b.ReportMetric(ms(r.own.median()), "own-ms")
	r.b.ReportMetric(ms(r.starts.median()), "bare-ms")
	r.b.ReportMetric(0, "ns/op")
	r.b.Logf("goals: none of %d requests fails, %d did; requests take as long as without reloads; all children are new after %d bare starts\n"+
		"new connections with reloads: %s\nwithout: %s\nkept connections with reloads: %s\nwithout: %s\n"+
		"99%% of the periods with reloads: %v\nwithout: %v\nall new: %v\none child more: %v\nbare: %v",
		len(all), failed, steps, tails(split[sample{true, false}]), tails(split[sample{false, false}]),
		tails(split[sample{true, true}]), tails(split[sample{false, true}]), tail[true], tail[false], r.renewals, r.own, r.starts)
}

// A sample is a kind of request.
type sample struct{ reload, kept bool }

// tails describes requests by those that took long.
func tails(ts times) string {
	return fmt.Sprintf("median %v, 99%% %v, 99.9%% %v, slowest %v of %d", ts.median(), ts.at(0.99), ts.at(0.999), ts.at(1), len(ts))
}
