package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCrashLoop lets all of fifty children crash again and again and measures what the parent does meanwhile: the
// share of a processor that it takes, how fast it answers, and what it writes to the log. The yardstick of an answer is
// the command that asks nobody, brood with a wrong word.
func BenchmarkCrashLoop(b *testing.B) { // B19, B20
	for _, c := range []struct{ name, after string }{
		{"in init", "0"}, {"right after ready", "20ms"}, {"after a while", "1500ms"},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := openBench(b)
			var answers, yard times
			var share, lines float64
			for b.Loop() {
				file := filepath.Join(m.dir, "crash")
				d := m.serve("-prefork", "50", "-crash", file, "-crash-after", c.after)
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					b.Fatal(err)
				}
				for _, p := range m.board(d).serving() {
					if err := kill(p.pid, syscall.SIGKILL); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := d.await("state=degraded"); err != nil {
					b.Fatal(err)
				}
				time.Sleep(time.Duration(scaled(3, 20)) * time.Second)
				cpu, begun, wrote := m.cpu(d.pid), time.Now(), m.logLines(d)
				for range scaled(10, 40) {
					time.Sleep(500 * time.Millisecond)
					asked := time.Now()
					// A question that the parent's loop has to answer, and at once.
					out, _ := exec.Command(filepath.Join(bin, "brood"), "scale", d.run, "0").CombinedOutput()
					if !strings.Contains(string(out), "cannot scale to 0 children") {
						b.Fatalf("it answers %s", out)
					}
					answers = append(answers, time.Since(asked))
					asked = time.Now()
					exec.Command(filepath.Join(bin, "brood"), "no-such-verb").Run()
					yard = append(yard, time.Since(asked))
				}
				took := time.Since(begun)
				share = (m.cpu(d.pid) - cpu).Seconds() / took.Seconds() * 100
				lines = float64(m.logLines(d)-wrote) / took.Minutes()
				asked := time.Now()
				m.stop(d)
				b.ReportMetric(ms(time.Since(asked)), "stop-ms")
			}
			b.ReportMetric(share, "%cpu")
			b.ReportMetric(lines, "lines/min")
			m.compare("less than 1 % of a processor, an answer within 100 ms", answers, "nobody", yard)
		})
	}
}

// cpu is the processor time that a process has used.
func (m *bench) cpu(pid int) time.Duration {
	m.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		m.b.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}

func (m *bench) logLines(d *server) int {
	m.b.Helper()
	text, err := os.ReadFile(d.log)
	if err != nil {
		m.b.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}
