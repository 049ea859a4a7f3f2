package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// accessFlood has four children write so many lines of so many bytes at once and returns how many arrive in the file each second.
func (m *bench) accessFlood(lines, size int, target string, flags ...string) float64 {
	m.b.Helper()
	const children = 4
	gate := filepath.Join(m.dir, fmt.Sprint("gate", len(m.daemons)))
	d, err := m.site.serve(nil, filepath.Join(bin, "talker"), append(flags, "-prefork", fmt.Sprint(children), "-gate", gate,
		"-flood", fmt.Sprint(lines), "-size", fmt.Sprint(size))...)
	if err != nil {
		m.b.Fatal(err)
	}
	begun := time.Now()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		m.b.Fatal(err)
	}
	// Whoever counts lines while they are written takes what is measured away. So their number is counted at the end only.
	var took time.Duration
	var last int64
	for quiet := begun; time.Since(quiet) < 300*time.Millisecond; time.Sleep(time.Millisecond) {
		st, err := os.Stat(target)
		if err == nil && st.Size() != last {
			last, quiet = st.Size(), time.Now()
			took = time.Since(begun)
		}
		if time.Since(begun) > patience {
			m.b.Fatal("it never ends")
		}
		if last == 0 {
			quiet = time.Now()
		}
	}
	m.stop(d)
	log, err := os.ReadFile(target)
	if err != nil {
		m.b.Fatal(err)
	}
	if n := bytes.Count(log, []byte("\n")); n != children*lines || bytes.Contains(log, []byte("dropped")) {
		m.b.Fatalf("%d lines have arrived, want %d", n, children*lines)
	}
	return float64(children*lines) / took.Seconds()
}

// BenchmarkAccess is how many access lines get from four children through the parent into the file, beside as many as the same
// children append to a file themselves: lines of the program's own, and those that the daemon makes of jobs. Goal: 200,000 a second in
// all on two processors, or half of what goes directly, whichever is less.
func BenchmarkAccess(b *testing.B) {
	lines := scaled(20_000, 100_000)
	const size = 80
	for _, c := range []struct {
		name  string
		flags []string
	}{
		{"own", []string{"-access-format", "own"}},
		{"combined", []string{"-access-format", "combined", "-jobs"}},
		{"json", []string{"-access-format", "json", "-jobs"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := openBench(b)
			var through, direct float64
			for n := 0; b.Loop(); n++ {
				path := func(name string) string { return filepath.Join(m.dir, fmt.Sprint(name, n, ".log")) }
				direct += m.accessFlood(lines, size, path("direct"), "-direct", path("direct"))
				through += m.accessFlood(lines, size, path("access"), append(c.flags, "-access-log", path("access"), "-log-max-size", "-1")...)
			}
			b.ReportMetric(through/float64(b.N), "lines/s")
			b.ReportMetric(direct/float64(b.N), "direct-lines/s")
			b.ReportMetric(through/direct, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
