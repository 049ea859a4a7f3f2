package daemon_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// eating keeps as many megabytes as a client asks for.
var eating = scenario("eating", func() daemon.Config {
	var kept [][]byte
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		for conn := range c.Conns(ctx) {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			var n int
			fmt.Sscanf(line, "%d", &n)
			b := make([]byte, n<<20)
			for i := range b {
				b[i] = byte(i)
			}
			kept = append(kept, b)
			fmt.Fprintf(conn, "%d\n", os.Getpid())
		}
		return nil
	})
})

// A child that uses more memory than it may is replaced when its job has ended, and the job is answered.
func TestMaxMemory(t *testing.T) {
	t.Parallel()
	s := start(t, eating, "BROOD_PREFORK=1", "BROOD_MAX_MEMORY=100M")
	eat := func(megabytes int) (pid int) {
		conn := s.dial("tcp4")
		say(t, conn, fmt.Sprint(megabytes))
		if _, err := fmt.Fscan(conn, &pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	first := eat(1)
	if pid := eat(2); pid != first {
		t.Errorf("child %d was replaced for three megabytes", first)
	}
	// Looked at once a second at most: somebody asks until it is seen.
	eat(120)
	var second int
	eventually(t, "another child", func() bool {
		second = eat(0)
		return second != first
	})
	b := s.await("the new one alone", func(b *scoreboard.Snapshot) bool { return len(b.Children) == 1 })
	if cause := b.Children[0].Cause; !strings.Contains(cause, ": uses ") || !strings.Contains(cause, " MB of memory, more than 100.0 MB") {
		t.Errorf("it was born because %q", cause)
	}
	if b.Died != 0 || b.Killed != 0 {
		t.Errorf("died %d, killed %d", b.Died, b.Killed)
	}
}

// A child without work that is stopped is ended, and one that has work is not. The time is one in which a child comes up even on a machine
// that has much else to do: it is asked for a sign of life while it starts, too.
func TestHungAfter(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=2", "BROOD_HUNG_AFTER=3s")
	conn := s.dial("tcp4")
	busy, _ := askWho(t, conn, "gate a")
	var idle int
	for _, c := range s.board().Children {
		if c.PID != busy {
			idle = c.PID
		}
	}
	s.signal(syscall.SIGSTOP, busy)
	s.signal(syscall.SIGSTOP, idle)
	s.await("another child", func(*scoreboard.Snapshot) bool { return s.child(idle).PID == 0 })
	for _, c := range s.serving() {
		if c.PID != busy && !strings.Contains(c.Cause, "has given no sign of life for 3s") {
			t.Errorf("it was born because %q", c.Cause)
		}
	}
	if gone(busy) {
		t.Error("a busy child was ended")
	}
	s.signal(syscall.SIGCONT, busy)
	s.open("a")
	s.event("end", "a")
}

// lost in itself: a main loop that accepts for a while and then never comes back to it.
var stuck = scenario("stuck", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		for range c.Conns(ctx) {
			break
		}
		note(event{What: "stuck"})
		<-make(chan int)
		return nil
	})
})

func TestHungAfterMainLoopStuck(t *testing.T) {
	t.Parallel()
	s := start(t, stuck, "BROOD_PREFORK=1", "BROOD_HUNG_AFTER=3s")
	first := s.serving()[0].PID
	time.Sleep(4 * time.Second) // it waits for a connection, which is as it should be
	if now := s.serving()[0].PID; now != first {
		t.Fatalf("%d was replaced while it waited for work:\n%s", first, s.log())
	}
	s.dial("tcp4")
	s.event("stuck", "")
	s.await("another child", func(b *scoreboard.Snapshot) bool { return s.serving()[0].PID != first })
}

// pausing takes a pause when the gate is there, and goes on when the other one is.
var pausing = scenario("pausing", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		var paused atomic.Bool
		go func() {
			awaitGate(ctx, fmt.Sprint("pause-", c.Slot()))
			c.Pause()
			paused.Store(true)
			note(event{What: "paused"})
			awaitGate(ctx, fmt.Sprint("resume-", c.Slot()))
			paused.Store(false)
			c.Resume()
		}()
		for conn := range c.Conns(ctx) {
			if paused.Load() {
				note(event{What: "wrong"})
			}
			fmt.Fprintf(conn, "%d\n", c.Slot())
		}
		return nil
	})
})

func TestPause(t *testing.T) {
	t.Parallel()
	s := start(t, pausing, "BROOD_PREFORK=2")
	s.open("pause-0")
	s.event("paused", "")
	s.await("a paused child", func(b *scoreboard.Snapshot) bool { return b.Children[0].State == scoreboard.Paused })
	for range 50 {
		var slot int
		if _, err := fmt.Fscan(s.dial("tcp4"), &slot); err != nil || slot != 1 {
			t.Fatalf("slot %d answers, %v", slot, err)
		}
	}
	// When both rest, clients wait for who comes back first.
	s.open("pause-1")
	s.await("two paused children", func(b *scoreboard.Snapshot) bool {
		return b.Children[0].State == scoreboard.Paused && b.Children[1].State == scoreboard.Paused
	})
	var waiting []interface{ Read([]byte) (int, error) }
	for range 5 {
		waiting = append(waiting, s.dial("tcp4"))
	}
	s.open("resume-0")
	for _, conn := range waiting {
		var slot int
		if _, err := fmt.Fscan(conn, &slot); err != nil || slot != 0 {
			t.Errorf("slot %d answers, %v", slot, err)
		}
	}
	if len(s.eventsOf("wrong", "")) > 0 {
		t.Error("a paused child has accepted")
	}
	// Who rests leaves like anybody else.
	s.reload()
	s.serving()
}

// A pool whose only children rest has nobody to spare: it grows.
func TestPauseMakesPoolGrow(t *testing.T) {
	t.Parallel()
	s := start(t, pausing, "BROOD_POOL=dynamic", "BROOD_PREFORK=1", "BROOD_MAX_CHILDREN=3")
	s.open("pause-0")
	s.await("another child", func(b *scoreboard.Snapshot) bool {
		return len(b.Children) == 2 && b.Children[1].State == scoreboard.Idle
	})
}

// limited tells which limits hold when ChildInit is called.
var limited = scenario("limited", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.ChildInit = func(*daemon.Child) error {
		var core, files, size unix.Rlimit
		for resource, l := range map[int]*unix.Rlimit{unix.RLIMIT_CORE: &core, unix.RLIMIT_NOFILE: &files, unix.RLIMIT_FSIZE: &size} {
			if err := unix.Getrlimit(resource, l); err != nil {
				return err
			}
		}
		note(event{What: "limits", Text: fmt.Sprint(core, files.Max, size.Cur)})
		return nil
	}
	return cfg
})

func TestRlimits(t *testing.T) {
	t.Parallel()
	s := start(t, limited, "BROOD_RLIMITS=nofile=300 fsize=64M:1G")
	if e := s.event("limits", ""); e.Text != "{0 0} 300 67108864" {
		t.Errorf("the limits are %s", e.Text)
	}
}
