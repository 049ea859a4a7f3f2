package test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The benchmarks measure the toolkit and its yardstick in one run and report the ratio, because times move from machine to
// machine and with whatever else runs there. No time is a reason to fail; what is lost or left behind is.
//
//	go test -run '^$' -bench . -benchtime 1x ./test

// benchProgram is test/daemons/bench, built when it is first wanted: plain tests have no use for it.
var benchProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(root, "bench")
	return path, goBuild(path, "", "./test/daemons/bench")
})

// A bench is the site of one benchmark, with the program that it measures.
type bench struct {
	*site
	b       *testing.B
	program string
}

func openBench(b *testing.B) *bench {
	b.Helper()
	program, err := benchProgram()
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		b.Fatal(err)
	}
	s := newSite(b, dir)
	b.Cleanup(s.clear)
	return &bench{s, b, program}
}

func (m *bench) serve(flags ...string) *server {
	m.b.Helper()
	d, err := m.site.serve(nil, m.program, flags...)
	if err != nil {
		m.b.Fatal(err)
	}
	return d
}

// stop ends a daemon, so that the next one has the machine to itself.
func (m *bench) stop(d *server) {
	m.b.Helper()
	if err := d.interrupt(); err != nil {
		m.b.Fatal(err)
	}
}

// listener makes a socket for bare processes to inherit.
func (m *bench) listener() *os.File {
	m.b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.b.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		m.b.Fatal(err)
	}
	m.b.Cleanup(func() { f.Close() })
	return f
}

// A yardstick is a process that is no daemon.
type yardstick struct {
	process *os.Process
	line    string        // the first that it printed
	took    time.Duration // from before it was executed until that line was here
	end     func()
}

// yardstick starts the program in another mode. One processor is what the toolkit gives a child.
func (m *bench) yardstick(mode string, ln *os.File) (*yardstick, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	attr := &os.ProcAttr{
		Dir: m.dir, Env: m.environ(), Files: []*os.File{nil, w, os.Stderr, ln},
		// Not even a test that is killed leaves it behind.
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if ln == nil {
		attr.Files = attr.Files[:3]
	} else {
		attr.Env = append(attr.Env, "GOMAXPROCS=1")
	}
	begun := time.Now()
	p, err := os.StartProcess(m.program, []string{m.program, mode}, attr)
	w.Close()
	if err != nil {
		return nil, err
	}
	y := &yardstick{process: p}
	y.end = sync.OnceFunc(func() {
		p.Kill()
		p.Wait()
	})
	line, err := bufio.NewReader(r).ReadString('\n')
	y.took, y.line = time.Since(begun), strings.TrimSpace(line)
	if err != nil {
		y.end()
		return nil, fmt.Errorf("%s %s: %w", m.program, mode, err)
	}
	return y, nil
}

// bare returns how long a bare process takes from its execution until it says that it is ready.
func (m *bench) bare(ln *os.File) time.Duration {
	m.b.Helper()
	y, err := m.yardstick("bare", ln)
	if err != nil {
		m.b.Fatal(err)
	}
	y.end()
	return y.took
}

// bareCrowd starts n bare processes, so many at a time, and returns them when each has said that it is ready, and how
// long that took.
func (m *bench) bareCrowd(n, parallel int) ([]*yardstick, time.Duration) {
	m.b.Helper()
	ln := m.listener()
	all, errs := make([]*yardstick, n), make([]error, n)
	turn := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range n {
		turn <- struct{}{}
		wg.Go(func() {
			all[i], errs[i] = m.yardstick("bare", ln)
			<-turn
		})
	}
	wg.Wait()
	took := time.Since(begun)
	for i, y := range all {
		if y != nil {
			m.undo = append(m.undo, y.end)
		}
		if errs[i] != nil {
			m.b.Fatal(errs[i])
		}
	}
	return all, took
}

// times are the samples of one thing.
type times []time.Duration

func (ts times) at(share float64) time.Duration {
	s := slices.Sorted(slices.Values(ts))
	return s[min(int(share*float64(len(s))), len(s)-1)]
}

func (ts times) median() time.Duration { return ts.at(0.5) }

func (ts times) String() string {
	return fmt.Sprintf("median %v, 90%% %v, slowest %v of %d", ts.median(), ts.at(0.9), ts.at(1), len(ts))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// compare reports the medians of both and their ratio.
func (m *bench) compare(goal string, ours times, than string, yard times) {
	ratio := float64(ours.median()) / float64(yard.median())
	m.b.ReportMetric(ratio, "ratio")
	m.b.ReportMetric(ms(ours.median()), "brood-ms")
	m.b.ReportMetric(ms(yard.median()), than+"-ms")
	m.b.ReportMetric(0, "ns/op") // of both together: means nothing
	m.b.Logf("goal: %s; ratio %.2f\nbrood %v\n%s %v", goal, ratio, ours, than, yard)
}

// scaled is few with -short, else many.
func scaled(few, many int) int {
	if testing.Short() {
		return few
	}
	return many
}
