package daemon

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

// earpiece is a service manager's socket. heard returns what it has been told since the last time.
func earpiece(t *testing.T) (socket string, heard func() []string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "notify")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return socket, func() (texts []string) {
		buf := make([]byte, 4096)
		for {
			n, err := unix.Read(fd, buf)
			if err != nil {
				return texts
			}
			texts = append(texts, string(buf[:n]))
		}
	}
}

// What the service manager is told, and when, by a clock of the test's own.
func TestReport(t *testing.T) {
	socket, heard := earpiece(t)
	p := &Parent{
		log: slog.New(slog.DiscardHandler), events: make(chan event, 256), done: make(chan struct{}),
		service: newService(inherit.Service{Socket: socket, Watchdog: time.Hour}),
	}
	l := &loop{Parent: p, pool: newPool(limits{})}
	defer p.ended(nil)
	now := time.Now()
	expect := func(after time.Duration, want ...string) {
		t.Helper()
		now = now.Add(after)
		l.report(now)
		got := heard()
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
				t.Fatalf("hears %q, want %q", got, want)
			}
		}
	}
	st := &l.pool.status
	st.State = "starting"
	expect(0, "STATUS=starting: 0 of 0", "WATCHDOG=1")
	// A line of its own at most once a second, and then the last; with other news at once.
	for range 9 {
		st.Want++
		expect(100 * time.Millisecond)
	}
	expect(100*time.Millisecond, "STATUS=starting: 0 of 9")
	expect(time.Minute)
	st.State = "serving"
	expect(time.Millisecond, "READY=1\nSTATUS=serving: 0 of 9")
	st.State, st.Trouble = "degraded", "no luck"
	expect(999 * time.Millisecond)
	expect(time.Millisecond, "STATUS=degraded: 0 of 9 children serve, generation 0; no luck")
	st.State, st.Trouble = "serving", ""
	expect(time.Second, "STATUS=serving")
	expect(time.Minute)
	// Signs of life at half the interval.
	expect(25 * time.Minute)
	expect(5*time.Minute, "WATCHDOG=1")
	expect(29 * time.Minute)
	expect(3*time.Minute, "WATCHDOG=1")
	// One reload after the other without a pause.
	st.State, st.Rolling, l.pool.roll = "reloading", 2, &roll{cause: "a\nb"}
	expect(0, "RELOADING=1\nMONOTONIC_USEC=")
	st.Rolling, st.Reload = 3, "why"
	expect(0, "RELOADING=1\nMONOTONIC_USEC=")
	st.State, st.Rolling = "serving", 0
	expect(0, "READY=1\nSTATUS=serving: 0 of 9 children serve, generation 0; the last reload failed: why")
	st.State = "stopping"
	expect(0, "STOPPING=1\nSTATUS=stopping")

	// One that does not listen is told as soon as it does: what is news then.
	for err := error(nil); err == nil; {
		err = p.service.notifier.Send("FILLER=1")
	}
	st.State, st.Reload = "serving", ""
	l.report(now)
	st.State, st.Rolling = "reloading", 4
	l.report(now)
	st.State, st.Rolling = "serving", 0
	l.report(now)
	if due := p.service.wakeAt.Sub(now); due <= 0 || due > notifyAgain {
		t.Errorf("the next try is after %v", due)
	}
	heard()
	expect(notifyAgain - 1)
	expect(1, "RELOADING=1", "READY=1\nSTATUS=serving")
	expect(time.Minute)
}
