package daemon_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/netmon"
)

// A link is two hosts and a cable between them: network namespaces with an end of a veth pair each.
type link struct {
	t           testing.TB
	here, there *os.File
}

// newLink brings the goroutine of a test to one of two new hosts, for good: its thread ends with it. What the test starts
// runs there.
func newLink(t *testing.T) *link {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8) to connect two network namespaces")
	}
	runtime.LockOSThread()
	var ns [2]*os.File
	for i := range ns {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Skipf("cannot make a network namespace: %v", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		ns[i] = f
	}
	l := &link{t, ns[0], ns[1]}
	l.on(l.here, func() {
		l.ip(l.there, "link add near type veth peer name far netns /proc/self/fd/3")
		l.ip(nil, "address add 10.99.0.1/24 dev near")
		l.ip(nil, "link set near up")
		l.ip(nil, "link set lo up")
	})
	l.on(l.there, func() {
		l.ip(nil, "address add 10.99.0.2/24 dev far")
		l.ip(nil, "link set far up")
	})
	if err := unix.Setns(int(l.here.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	return l
}

// on calls f on one of the hosts and comes back.
func (l *link) on(host *os.File, f func()) {
	l.t.Helper()
	back, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		l.t.Fatal(err)
	}
	defer back.Close()
	if err := unix.Setns(int(host.Fd()), unix.CLONE_NEWNET); err != nil {
		l.t.Fatal(err)
	}
	f()
	if err := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); err != nil {
		l.t.Fatal(err)
	}
}

// ip calls ip(8) with a descriptor that it finds as number 3.
func (l *link) ip(f *os.File, args string) {
	l.t.Helper()
	cmd := exec.Command("sh", "-c", "exec ip "+args)
	if f != nil {
		cmd.ExtraFiles = []*os.File{f}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}

// B46: a client whose host vanishes says no farewell. He is noticed when ClientTimeout is over, whether anything is on its
// way to him or not.
func TestVanishedHost(t *testing.T) {
	const timeout = 5 * time.Second
	for _, verb := range []string{"hold", "drip"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			l := newLink(t)
			s := start(t, lines, "BROOD_PREFORK=1", "BROOD_LISTEN=10.99.0.1:0", fmt.Sprint("BROOD_CLIENT_TIMEOUT=", timeout))
			var conn net.Conn
			l.on(l.there, func() { conn = s.dial("tcp4") })
			pid, _ := askWho(t, conn, verb+" one")
			vanished := time.Now()
			l.on(l.there, func() { l.ip(nil, "link set far down") })
			got := s.lost(1)[0]
			// The kernel's clock for such things is coarse.
			if after := time.Since(vanished); after < timeout*3/5 || after > timeout+10*time.Second {
				t.Errorf("noticed after %v, want %v", after, timeout)
			}
			if got.PID != pid || got.How != netmon.TimedOut || got.HowText != "timed out" {
				t.Errorf("told %+v", got)
			}
			if e := s.event("end", "one"); e.Text != "client gone" {
				t.Errorf("the job ends: %s", e.Text)
			}
			if n := len(s.lost(1)); n != 1 {
				t.Errorf("told %d times", n)
			}
		})
	}
}

// A client on another host who is there but says nothing is not given up, and his reset is no silence.
func TestSilentHost(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	s := start(t, lines, "BROOD_PREFORK=1", "BROOD_LISTEN=10.99.0.1:0", "BROOD_CLIENT_TIMEOUT=5s")
	var conn net.Conn
	l.on(l.there, func() { conn = s.dial("tcp4") })
	askWho(t, conn, "hold one")
	// The moment that is tried: when a host that had vanished would have been given up.
	time.Sleep(7 * time.Second)
	if all := linesOf[lost](s, "lost"); len(all) > 0 {
		t.Fatalf("told %+v", all)
	}
	ways[1].leave(t, conn)
	if got := s.lost(1)[0]; got.How != netmon.Reset {
		t.Errorf("told %+v", got)
	}
	s.event("end", "one")
}
