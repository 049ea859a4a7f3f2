package accept

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// program is server, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "accept")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "server")
	if out, err := exec.Command("go", "build", "-o", path, "./server").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if path, err := program(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// A contender is a way to accept, under measurement.
type contender struct {
	name   string
	addr   string
	parent int
	slices []float64 // what has been measured
}

// modes are those of the toolkit.
var modes = []string{"exclusive", "none", "flock", "semaphore", "pipe", "reuseport"}

// start starts one with n children: a mode of the toolkit, or one of the others, whose names begin with a slash.
func start(b *testing.B, name string, n int) *contender {
	b.Helper()
	path, err := program()
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0") // for a port that is free
	if err != nil {
		b.Fatal(err)
	}
	c := &contender{name: name, addr: ln.Addr().String()}
	ln.Close()
	args := []string{strings.TrimPrefix(name, "/"), c.addr}
	if !strings.HasPrefix(name, "/") {
		args = []string{"brood", "-run-dir", b.TempDir(), "-listen", c.addr, "-pool", "static", "-prefork", strconv.Itoa(n), "-serialize", name}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "BROOD_LOG_LEVEL=error", "BROOD_AUTO_RELOAD_WHEN=never")
	if strings.HasPrefix(name, "/") {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+strconv.Itoa(n))
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	c.parent = cmd.Process.Pid
	for end := time.Now().Add(20 * time.Second); len(children(c.parent)) < n || ask(c.addr, "/") != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%s does not serve with %d children: %v: %s", name, n, children(c.parent), &said)
		}
	}
	return c
}

// startAll starts the others, the default of the toolkit, and its other modes.
func startAll(b *testing.B, n int) (all []*contender) {
	b.Helper()
	for _, name := range append([]string{"/prefork", "/reuseport", "/flock"}, modes...) {
		all = append(all, start(b, name, n))
	}
	return all
}

// children are the processes whose parent is pid.
func children(pid int) []int {
	var pids []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(text)) {
			if c, err := strconv.Atoi(f); err == nil {
				pids = append(pids, c)
			}
		}
	}
	return pids
}

// switches is how often the threads of processes have given up a processor.
func switches(pids []int) (n int) {
	for _, pid := range pids {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, file := range files {
			text, _ := os.ReadFile(file)
			for line := range strings.Lines(string(text)) {
				if name, value, _ := strings.Cut(line, ":"); name == "voluntary_ctxt_switches" {
					k, _ := strconv.Atoi(strings.TrimSpace(value))
					n += k
				}
			}
		}
	}
	return n
}

// ask sends a request on a connection of its own and waits until the server closes that.
func ask(addr, path string) error {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	buf := make([]byte, 1024)
	n := 0
	for {
		k, err := c.Read(buf[n:])
		n += k
		switch {
		case errors.Is(err, io.EOF) && bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")):
			return nil
		case err != nil:
			return fmt.Errorf("after %q: %w", buf[:n], err)
		}
	}
}

// crowd has 32 clients ask for so long, each anew when it has its answer, and returns how many answers there were a second.
func (c *contender) crowd(b *testing.B, d time.Duration) float64 {
	b.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	begun := time.Now()
	for range 32 {
		wg.Go(func() {
			for time.Since(begun) < d {
				if err := ask(c.addr, "/"); err != nil {
					b.Errorf("%s: %v", c.name, err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(begun).Seconds()
}

func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	return s[len(s)/2]
}

// turns measures all again and again, each time in another order: what one has left behind, in the kernel or in the machine, is not to
// meet the same one every time.
func turns(all []*contender, rounds int, measure func(*contender) float64) {
	for range rounds {
		for _, i := range rand.Perm(len(all)) {
			all[i].slices = append(all[i].slices, measure(all[i]))
		}
	}
}

// against is how much c does of what other does, in the same round: the machine is faster in one than in another.
func (c *contender) against(other *contender) float64 {
	var shares []float64
	for i := range c.slices {
		shares = append(shares, c.slices[i]/other.slices[i])
	}
	return median(shares)
}

// BenchmarkClose is connections a second, each with one request, from 32 clients. The goal: the default has 0.95 times the
// best of the others, in the median round.
func BenchmarkClose(b *testing.B) {
	for _, n := range []int{2, 8, 32} {
		b.Run(fmt.Sprintf("%d children", n), func(b *testing.B) {
			all := startAll(b, n)
			for b.Loop() {
				turns(all, 36, func(c *contender) float64 { return c.crowd(b, 100*time.Millisecond) })
			}
			best := slices.MaxFunc(all[:3], func(a, b *contender) int { return cmp.Compare(median(a.slices), median(b.slices)) })
			for _, c := range all {
				b.Logf("%-10s %6.0f/s  %.2f of the best other", c.name, median(c.slices), c.against(best))
			}
			b.ReportMetric(all[3].against(best), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSwitches is (voluntary) context switches of all children for each of 300 connections that come one at a time, 2 ms apart. The
// goal: at most 6 for the default, with 32 children.
func BenchmarkSwitches(b *testing.B) {
	for _, n := range []int{2, 8, 32} {
		b.Run(fmt.Sprintf("%d children", n), func(b *testing.B) {
			all := startAll(b, n)
			const connections = 300
			for b.Loop() {
				turns(all, 3, func(c *contender) float64 {
					pids := children(c.parent)
					before := switches(pids)
					for range connections {
						if err := ask(c.addr, "/"); err != nil {
							b.Fatal(err)
						}
						time.Sleep(2 * time.Millisecond)
					}
					return float64(switches(pids)-before) / connections
				})
			}
			for _, c := range all {
				b.Logf("%-10s %5.1f", c.name, median(c.slices))
			}
			b.ReportMetric(median(all[3].slices), "switches/conn")
			b.ReportMetric(0, "ns/op")
		})
	}
}
