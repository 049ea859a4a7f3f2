package compare

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	psnet "github.com/shirou/gopsutil/v4/net"

	"github.com/brooddaemon/brood/netmon"
)

const (
	connections = 10_000
	closing     = 10
	perRound    = 9 // looks of ours for each of the other
)

// watched are the states for which a Monitor asks.
const watched = netmon.States(1<<netmon.Established | 1<<netmon.CloseWait | 1<<netmon.FinWait1 | 1<<netmon.FinWait2 |
	1<<netmon.Closing | 1<<netmon.LastAck)

// crowd fills the table, and returns the connections that are ours.
func crowd(b *testing.B) world {
	b.Helper()
	newWorlds(b, connections-closing, false)
	return newWorlds(b, closing, true)[0]
}

// look returns a look at the ten, with src.
func look(b *testing.B, src netmon.Snapshotter, port uint16) func() {
	var rows []netmon.Conn
	ports := []uint16{port}
	return func() {
		var err error
		rows, err = src.Snapshot(rows[:0], netmon.Filter{Ports: ports, States: watched})
		if err != nil || len(rows) != closing {
			b.Fatal(len(rows), err)
		}
	}
}

// rival runs another program.
func rival(b *testing.B, name string, args ...string) func() {
	path, err := exec.LookPath(name)
	if err != nil {
		b.Skip("not installed: ", err)
	}
	return func() {
		cmd := exec.Command(path, args...)
		cmd.Stdout = io.Discard // by a pipe: some write less to /dev/null
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// against measures ours and theirs by turns, and reports how many times longer theirs
// takes.
func against(b *testing.B, ours, theirs func(), goal float64) {
	b.Helper()
	ours()
	theirs()
	var mine, others []time.Duration
	for b.Loop() {
		runtime.GC() // theirs is not billed to us
		for range perRound {
			mine = append(mine, timed(ours))
		}
		others = append(others, timed(theirs))
	}
	m, o := median(mine), median(others)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(m)/1e3, "ours-µs")
	b.ReportMetric(float64(o)/1e3, "theirs-µs")
	b.ReportMetric(float64(o)/float64(m), "x")
	b.ReportMetric(goal, "x-goal")
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkDiag compares a look by inet_diag.
func BenchmarkDiag(b *testing.B) {
	port := crowd(b).port
	d := netmon.NewDiag()
	defer d.Close()
	ours := look(b, d, port)
	b.Run("ss -tn", func(b *testing.B) { against(b, ours, rival(b, "ss", "-tn"), 20) })
	b.Run("netstat -anp", func(b *testing.B) { against(b, ours, rival(b, "netstat", "-anp"), 120) })
	b.Run("procfs NetTCP", func(b *testing.B) { against(b, ours, netTCP(b, false), 25) })
	b.Run("gopsutil Connections", func(b *testing.B) { against(b, ours, gopsutil(b), 300) })

	// The floor: the kernel walks its table, and finds nothing to send.
	b.Run("a walk that finds nothing", func(b *testing.B) {
		nobody := netmon.Filter{Ports: []uint16{1}, States: watched}
		var rows []netmon.Conn
		walk := func() {
			var err error
			if rows, err = d.Snapshot(rows[:0], nobody); err != nil || len(rows) > 0 {
				b.Fatal(rows, err)
			}
		}
		against(b, ours, walk, 1/1.3)
	})
}

// BenchmarkPoll compares what netstat -anp tells, connections with their processes, with
// a Monitor that knows its connections.
func BenchmarkPoll(b *testing.B) {
	w := crowd(b)
	src, choice := netmon.Open(netmon.DefaultFS)
	defer src.Close()
	b.Log(choice)
	m := netmon.NewMonitor(netmon.DefaultFS, src)
	ports, pids := []uint16{w.port}, []int{w.pid}
	lost, err := m.Poll(nil, ports, pids)
	if err != nil || len(lost) != closing {
		b.Fatal(lost, err)
	}
	poll := func() {
		if lost, err = m.Poll(lost[:0], ports, pids); err != nil || len(lost) > 0 {
			b.Fatal(lost, err)
		}
	}
	b.Run("netstat -anp", func(b *testing.B) { against(b, poll, rival(b, "netstat", "-anp"), 50) })
	b.Run("ss -tnp", func(b *testing.B) { against(b, poll, rival(b, "ss", "-tnp"), 40) })
}

// BenchmarkTable compares a look at /proc/net/tcp and tcp6.
func BenchmarkTable(b *testing.B) {
	port := crowd(b).port
	ours := look(b, netmon.NewTable(netmon.DefaultFS), port)
	b.Run("procfs NetTCP and NetTCP6", func(b *testing.B) { against(b, ours, netTCP(b, true), 1.4) })
}

// BenchmarkLookup compares looking up one socket among 1,000 with one among 50,000. Here
// x-goal is the most that it should be.
func BenchmarkLookup(b *testing.B) {
	one := func(n int) func() {
		d, rows := elsewhere(b, n/2)
		var states []netmon.State
		i := 0
		return func() {
			for range 100 {
				i = (i + 7) % len(rows)
				var err error
				if states, err = d.Lookup(states[:0], rows[i:i+1]); err != nil || states[0] != netmon.Established {
					b.Fatal(states, err)
				}
			}
		}
	}
	few, many := one(1_000), one(50_000)
	few()
	many()
	var tookFew, tookMany []time.Duration
	for b.Loop() {
		tookFew = append(tookFew, timed(few))
		tookMany = append(tookMany, timed(many))
	}
	f, m := median(tookFew), median(tookMany)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(f)/1e5, "µs-of-1000")
	b.ReportMetric(float64(m)/1e5, "µs-of-50000")
	b.ReportMetric(float64(m)/float64(f), "x")
	b.ReportMetric(1.5, "x-goal")
}

func netTCP(b *testing.B, six bool) func() {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		//lint:ignore SA1019 this is what is compared
		rows, err := fs.NetTCP()
		if err != nil || len(rows) < 2*connections {
			b.Fatal(len(rows), err)
		}
		if !six {
			return
		}
		//lint:ignore SA1019 this too
		if _, err := fs.NetTCP6(); err != nil && !errors.Is(err, os.ErrNotExist) {
			b.Fatal(err)
		}
	}
}

func gopsutil(b *testing.B) func() {
	return func() {
		rows, err := psnet.Connections("tcp")
		if err != nil || len(rows) < 2*connections {
			b.Fatal(len(rows), err)
		}
	}
}
