package daemon

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
)

// unread returns a child that reads nothing, and its end of the control socket.
func unread(t *testing.T) (*Parent, *process, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	proc := &process{control: os.NewFile(uintptr(fds[0]), "control")}
	t.Cleanup(func() { proc.control.Close() })
	if proc.controlRaw, err = proc.control.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	p := &Parent{events: make(chan event, 16), done: make(chan struct{})}
	t.Cleanup(func() { close(p.done) })
	return p, proc, fds[1]
}

// room waits until the parent is told that there is some.
func room(t *testing.T, p *Parent) {
	t.Helper()
	select {
	case ev := <-p.events:
		if _, ok := ev.(evRoom); !ok {
			t.Fatalf("%+v", ev)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody says that there is room")
	}
}

// A child that does not read for a while gets all that it was told, once and in order.
func TestUnsent(t *testing.T) {
	p, proc, child := unread(t)
	defer unix.Close(child)
	const all = 3000
	for serial := range uint64(all) {
		if err := proc.tell(p, control.Message{Kind: control.Revoke, Serial: serial}); err != nil {
			t.Fatal(err)
		}
	}
	if len(proc.unsent) == 0 || len(proc.unsent) == all {
		t.Fatalf("%d messages have found no room", len(proc.unsent))
	}
	buf := make([]byte, control.MaxMessage)
	next := uint64(0)
	read := func() {
		for {
			n, err := unix.Read(child, buf)
			if err == unix.EAGAIN {
				return
			}
			m, perr := control.Parse(buf[:max(n, 0)])
			if err != nil || perr != nil || m.Kind != control.Revoke || m.Serial != next {
				t.Fatalf("message %d is %+v, %v, %v", next, m, err, perr)
			}
			next++
		}
	}
	for read(); next < all; read() {
		room(t, p)
		if err := proc.tellRest(p); err != nil {
			t.Fatal(err)
		}
	}
	if proc.unsent != nil {
		t.Errorf("%d messages are left", len(proc.unsent))
	}
	if err := proc.tell(p, control.Message{Kind: control.Drain}); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(child, buf); err != nil || n == 0 {
		t.Errorf("afterwards: %d, %v", n, err)
	}
}

// For a child that never reads not everything is kept, and nothing after its end.
func TestUnsentForEver(t *testing.T) {
	p, proc, child := unread(t)
	err := error(nil)
	for n := 0; err == nil && n < 2*mostUnsent; n++ {
		err = proc.tell(p, control.Message{Kind: control.Ping})
	}
	if err == nil || len(proc.unsent) != mostUnsent {
		t.Errorf("%d messages are kept: %v", len(proc.unsent), err)
	}
	unix.Close(child)
	room(t, p)
	if err := proc.tellRest(p); !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) || proc.unsent != nil {
		t.Errorf("after its end: %v, %d messages", err, len(proc.unsent))
	}
}
