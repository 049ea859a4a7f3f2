package netmon

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns both ends of a connection.
func pair(b *testing.B, ln net.Listener) (client, server net.Conn) {
	b.Helper()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		b.Fatal(err)
	}
	return client, server
}

// ownSockets returns a listener, and a descriptor of this process for a Watcher.
func ownSockets(tb testing.TB) (ln net.Listener, self int) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	if self, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Close(self) })
	return ln, self
}

// BenchmarkWatcherNotice measures how long after a client's close it is told. The yardstick is a thread that is blocked in
// poll(2) on the socket, in turn: the least that anybody needs.
func BenchmarkWatcherNotice(b *testing.B) {
	ln, self := ownSockets(b)
	w, err := NewWatcher()
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	told := make(chan time.Time, 1)
	go func() {
		for inodes, err := w.Wait(nil); err == nil; inodes, err = w.Wait(inodes[:0]) {
			told <- time.Now()
		}
	}()
	watched := func() time.Duration {
		c, s := pair(b, ln)
		defer s.Close()
		fd, inode := descriptorOf(b, s)
		if err := w.Add(self, fd, inode); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		begun := time.Now()
		c.Close()
		return (<-told).Sub(begun)
	}
	polled := func() time.Duration {
		c, s := pair(b, ln)
		defer s.Close()
		fd, _ := descriptorOf(b, s)
		seen := make(chan time.Time)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, 10_000)
			seen <- time.Now()
		}()
		time.Sleep(time.Millisecond)
		begun := time.Now()
		c.Close()
		return (<-seen).Sub(begun)
	}
	var ours, floor []time.Duration
	for b.Loop() {
		for range 500 {
			ours, floor = append(ours, watched()), append(floor, polled())
		}
	}
	slices.Sort(ours)
	slices.Sort(floor)
	for _, at := range []struct {
		name string
		per  int
	}{{"p50", 50}, {"p99", 99}} {
		a, f := ours[len(ours)*at.per/100], floor[len(floor)*at.per/100]
		b.ReportMetric(float64(a)/float64(f), at.name+"-ratio")
		b.ReportMetric(float64(a)/1e3, at.name+"-us")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkWatcherIdle measures the processor time of a process that watches 10,000 connections on which nothing happens,
// and, in turn, of the same process when it has stopped to watch.
func BenchmarkWatcherIdle(b *testing.B) {
	const n, atOnce = 10_000, 2000
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); lim.Cur < n+3*atOnce {
		b.Skipf("the limit of descriptors is %d", lim.Cur)
	}
	ln, self := ownSockets(b)
	type socket struct {
		fd    int
		inode uint64
	}
	var sockets []socket
	// The clients' ends are held by others, so that a usual limit of descriptors is enough.
	for len(sockets) < n {
		cmd := exec.Command("sleep", "600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		for range atOnce {
			c, s := pair(b, ln)
			defer s.Close()
			f, err := c.(*net.TCPConn).File()
			c.Close()
			if err != nil {
				b.Fatal(err)
			}
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			fd, inode := descriptorOf(b, s)
			sockets = append(sockets, socket{fd, inode})
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
	}
	used := func() time.Duration {
		var u unix.Rusage
		unix.Getrusage(unix.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	idle := func() time.Duration {
		const d = 2 * time.Second
		before := used()
		time.Sleep(d)
		return (used() - before) / time.Duration(d.Seconds())
	}
	var armed, bare, arming time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		w, err := NewWatcher()
		if err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		for _, s := range sockets {
			if err := w.Add(self, s.fd, s.inode); err != nil {
				b.Fatal(err)
			}
		}
		arming += time.Since(begun)
		go w.Wait(nil)
		runtime.GC()
		armed += idle()
		w.Close()
		runtime.GC()
		bare += idle()
	}
	b.ReportMetric(float64(arming.Nanoseconds())/float64(n*rounds), "ns/add")
	b.ReportMetric(float64(armed.Microseconds())/float64(rounds), "armed-us/s")
	b.ReportMetric(float64(bare.Microseconds())/float64(rounds), "bare-us/s")
	b.ReportMetric(0, "ns/op")
}
