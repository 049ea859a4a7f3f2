package daemon_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// errand is a daemon whose hooks in the parent start programs all the time, and threads that end.
var errand = scenario("errand", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.Prefork = 3
	cfg.IdleEvery = 5 * time.Millisecond
	cfg.AfterInit = func(*daemon.Parent) error {
		runPrograms(20)
		// Programs that go into the background: this process is the one that gets them.
		for _, seconds := range strings.Fields(os.Getenv("BACKGROUND")) {
			if err := exec.Command("sh", "-c", `(sleep "$0" </dev/null >/dev/null 2>&1 &)`, seconds).Run(); err != nil {
				return err
			}
		}
		return nil
	}
	cfg.BeforeSpawn = func(*daemon.Parent, int, uint64) error {
		endThreads()
		return nil
	}
	cfg.IdleLoop = func(*daemon.Parent) {
		runPrograms(8)
		endThreads()
		note(event{What: "ran"})
	}
	return cfg
})

// runPrograms runs n programs at the same time and notes those whose exit status is not the one that they had.
func runPrograms(n int) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			want := fmt.Sprintf("exit status %d", i)
			script := fmt.Sprintf("exit %d", i)
			switch i {
			case 0:
				want = "<nil>"
			case 7:
				want, script = "signal: killed", "kill -9 $$"
			case 6:
				// Who forks without package os has no pidfd, and waits at once.
				if got := forkAndWait(script); got != want {
					note(event{What: "wrong", Text: fmt.Sprintf("got %v, want %s", got, want)})
				}
				return
			}
			if err := exec.Command("sh", "-c", script).Run(); fmt.Sprint(err) != want {
				note(event{What: "wrong", Text: fmt.Sprintf("got %v, want %s", err, want)})
			}
		})
	}
	all.Wait()
}

func forkAndWait(script string) string {
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{Env: os.Environ()})
	if err != nil {
		return err.Error()
	}
	var ws syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &ws, 0, nil); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}

// endThreads ends threads: a goroutine that returns while it is locked takes its thread with it.
func endThreads() {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { runtime.LockOSThread() })
	}
	all.Wait()
}

// B10: programs that the user's code runs in the parent have the right exit status, while children die all the time and
// are reaped. B15: no child dies because a thread of the parent ends.
func TestHooksRunPrograms(t *testing.T) {
	t.Parallel()
	s := start(t, errand)
	parent := s.cmd.Process.Pid
	killed := 0
	ran := func() int { return len(s.eventsOf("ran", "")) }
	for ; killed < 20; killed++ {
		before := ran()
		k := s.serving()[killed%3]
		s.signal(syscall.SIGKILL, k.PID)
		s.await("a new child", func(b *scoreboard.Snapshot) bool { return s.left(b, k.PID) && len(b.Children) == 3 })
		eventually(t, "some more programs", func() bool { return ran() > before+1 })
	}
	if wrong := s.eventsOf("wrong", ""); len(wrong) > 0 {
		t.Errorf("%d exit statuses are wrong: %+v", len(wrong), wrong[0])
	}
	if b := s.board(); b.Died != uint64(killed) || b.Killed != 0 || b.Born != uint64(3+killed) {
		t.Errorf("%d children were killed; the scoreboard: %+v", killed, b.Status)
	}
	eventually(t, "nobody to be left a zombie", func() bool { return len(zombies(parent)) == 0 })
	if n := strings.Count(s.log(), "level=WARN"); n != killed+warnings() {
		t.Errorf("%d warnings, want one for each of the %d children that were killed", n, killed)
	}
}

// warnings is how many warnings there are when a daemon is started.
func warnings() int {
	if os.Geteuid() == 0 {
		return 1 // children run as root
	}
	return 0
}

// zombies returns the children of a process that have ended and are not reaped. Programs that it is just waiting for
// may be among them.
func zombies(parent int) []int {
	var found []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil {
			continue
		}
		if p, err := lookAt(pid); err == nil && p.ppid == parent && p.state == 'Z' {
			found = append(found, pid)
		}
	}
	return found
}

// B10: what a hook has put into the background is nobody's stray. It is not killed, neither when a child dies nor when
// the daemon stops, and it is reaped when it ends.
func TestHooksBackground(t *testing.T) {
	t.Parallel()
	s := start(t, errand, "BROOD_IDLE_EVERY=1h", "BACKGROUND=3000 3001")
	parent := s.cmd.Process.Pid
	short, long := s.commands("sleep 3000"), s.commands("sleep 3001")
	if len(short) != 1 || len(long) != 1 || short[0].ppid != parent || long[0].ppid != parent {
		t.Fatalf("the parent, %d, has got\n%s", parent, s.cast())
	}
	t.Cleanup(func() { syscall.Kill(long[0].pid, syscall.SIGKILL) })
	for _, k := range s.serving() {
		s.signal(syscall.SIGKILL, k.PID)
		s.await("a new child", func(b *scoreboard.Snapshot) bool { return s.left(b, k.PID) && len(b.Children) == 3 })
	}
	s.reload()
	s.serving()
	if gone(short[0].pid) || gone(long[0].pid) {
		t.Error("it has ended")
	}
	s.signal(syscall.SIGKILL, short[0].pid)
	eventually(t, "it to be reaped", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", short[0].pid))
		return errors.Is(err, os.ErrNotExist)
	})
	s.stop(syscall.SIGTERM)
	if gone(long[0].pid) {
		t.Error("the other one has ended with the daemon")
	}
	s.signal(syscall.SIGKILL, long[0].pid)
}
