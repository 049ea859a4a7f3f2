package test

import (
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// upgradeEvery is how long a period of the benchmark is.
const upgradeEvery = time.Second

// BenchmarkUpgrade replaces the parent's program again and again, by two builds that take turns, while 500 clients a second
// connect and 16 keep their connections. Not one request may fail, and the parent holds no descriptor more in the end.
//
// Nobody listens to children and operators while the parent is being replaced, but the children accept on. So the gap
// that is measured is the longest time in which no new client was answered, in periods with an upgrade and, in turn, in
// such without.
func BenchmarkUpgrade(b *testing.B) {
	m := openBench(b)
	u := &reloading{bench: m, program: filepath.Join(m.dir, "prog")}
	u.build()
	var all []arrival
	var periods []period
	var away times
	for b.Loop() {
		u.install()
		var err error
		u.daemon, err = m.site.serve(nil, u.program, "-prefork", "4", "-concurrency", "8", "-auto-reload-when", "never")
		if err != nil {
			b.Fatal(err)
		}
		tr := startTraffic(u.daemon.addr + "/?for=1ms")
		m.undo = append(m.undo, tr.end)
		time.Sleep(upgradeEvery) // connections are there, pages are touched
		away = nil
		var descriptors []int
		for i := range scaled(4, 20) {
			periods = append(periods, u.lasting(upgradeEvery, u.calm), u.lasting(upgradeEvery, func() bool {
				away = append(away, u.upgrade(i+1))
				return true
			}))
			fds, err := descriptorsOf(u.daemon.pid)
			if err != nil {
				b.Fatal(err)
			}
			descriptors = append(descriptors, len(fds))
		}
		tr.end()
		all = append(all, tr.done...)
		if last := descriptors[len(descriptors)-1]; last > descriptors[1] {
			b.Errorf("descriptors of the parent after each upgrade: %v", descriptors)
		}
		m.noZombies(u.daemon)
		m.stop(u.daemon)
	}
	reportUpgrades(b, all, periods, away)
}

// upgrade makes the daemon's parent change over, for the nth time, and returns how long that took.
func (r *reloading) upgrade(nth int) time.Duration {
	r.install()
	begun := time.Now()
	if err := kill(r.daemon.pid, syscall.SIGUSR2); err != nil {
		r.b.Fatal(err)
	}
	if err := eventually(patience, func() error {
		n, err := countLines(r.daemon.log, "msg=upgraded ")
		if err == nil && n != nth {
			err = fmt.Errorf("%d upgrades, want %d", n, nth)
		}
		return err
	}); err != nil {
		r.b.Fatal(err)
	}
	return time.Since(begun)
}

func reportUpgrades(b *testing.B, all []arrival, periods []period, away times) {
	failed := 0
	var answers []time.Time // to new clients
	for _, a := range all {
		switch {
		case a.err != nil:
			failed++
			b.Errorf("a request planned for %s is lost after %v (on a kept connection: %v): %v",
				a.at.UTC().Format("15:04:05.000"), a.took, a.kept, a.err)
		case !a.kept:
			answers = append(answers, a.at.Add(a.took))
		}
	}
	slices.SortFunc(answers, time.Time.Compare)
	longest := map[bool]times{}
	for _, p := range periods {
		last, gap := p.begun, time.Duration(0)
		for _, at := range answers {
			if at.Before(p.begun) || !at.Before(p.end) {
				continue
			}
			gap, last = max(gap, at.Sub(last)), at
		}
		longest[p.reload] = append(longest[p.reload], max(gap, p.end.Sub(last)))
	}
	with, without := longest[true], longest[false]
	b.ReportMetric(float64(failed), "failed")
	b.ReportMetric(ms(with.at(1)), "gap-ms")
	b.ReportMetric(ms(without.at(1)), "calm-gap-ms")
	b.ReportMetric(float64(with.median())/float64(without.median()), "gap-ratio")
	b.ReportMetric(ms(away.median()), "upgrade-ms")
	b.ReportMetric(0, "ns/op")
	b.Logf("goals: none of %d requests fails, %d did; no gap of more than 20 ms\nlongest gap of each period with an upgrade: %v\n"+
		"without: %v\nfrom the signal to the new parent: %v", len(all), failed, with, without, away)
}
