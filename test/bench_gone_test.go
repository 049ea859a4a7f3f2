package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkGone measures the time from a client's leaving until nobody works for him any more: whoever works holds one end of
// a named pipe, and the other end is here.
//
// A job that listens to its context has 2 s to come to its end; one that does not is killed at once (KillGrace is negative).
// The yardstick is a handler of net/http that listens to the request's context, in a plain process. Other servers let all
// of these work on to their end.
func BenchmarkGone(b *testing.B) {
	m := openBench(b)
	plain, err := m.yardstick("plain", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer plain.end()
	patient, strict := m.serve("-prefork", "4"), m.serve("-prefork", "4", "-kill-grace", "-1s")
	g := &goings{bench: m, fifo: filepath.Join(m.dir, "until")}
	if err := unix.Mkfifo(g.fifo, 0o600); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, addr, kind string
	}{
		{"sleep", patient.addr, "sleep"}, {"spin", strict.addr, "spin"}, {"shell", strict.addr, "shell"},
	} {
		for _, how := range []string{"FIN", "reset"} {
			b.Run(c.name+" "+how, func(b *testing.B) {
				g.b = b
				var ours, yard times
				for b.Loop() {
					for range scaled(20, 200) {
						ours = append(ours, g.leave(c.addr, c.kind, how == "reset"))
						yard = append(yard, g.leave(plain.line, "sleep", how == "reset"))
					}
				}
				b.ReportMetric(ms(ours.at(0.5)), "p50-ms")
				b.ReportMetric(ms(ours.at(0.99)), "p99-ms")
				b.ReportMetric(ms(yard.at(0.5)), "nethttp-p50-ms")
				b.ReportMetric(ms(yard.at(0.99)), "nethttp-p99-ms")
				b.ReportMetric(0, "ns/op")
				b.Logf("goals: a job that listens 5 ms, 99%% of them 50 ms; one that does not 50 ms, 99%% of them\nbrood %s\nnet/http, which listens, %s",
					tails(ours), tails(yard))
			})
		}
	}
}

// goings are clients who leave.
type goings struct {
	*bench
	fifo string
}

// leave begins a job, leaves, and returns how long it works on.
func (g *goings) leave(addr, kind string, reset bool) time.Duration {
	g.b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		g.b.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "GET /work?kind=%s&until=%s HTTP/1.1\r\nHost: here\r\n\r\n", kind, g.fifo); err != nil {
		g.b.Fatal(err)
	}
	work, err := os.Open(g.fifo) // waits for the job to do so
	if err != nil {
		g.b.Fatal(err)
	}
	defer work.Close()
	time.Sleep(2 * time.Millisecond) // it works
	if reset {
		c.(*net.TCPConn).SetLinger(0)
	}
	begun := time.Now()
	c.Close()
	if err := work.SetReadDeadline(begun.Add(patience)); err != nil {
		g.b.Fatal(err)
	}
	if _, err := work.Read(make([]byte, 1)); os.IsTimeout(err) {
		g.b.Fatalf("the job still works after %v", patience)
	}
	return time.Since(begun)
}
