package tree

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests of the reaper take seconds, because it does; they use no processor time and run side by side.
func runAlone(t *testing.T, role string) {
	t.Parallel()
	newToken(t).role(t, role, nil).succeeds(t)
}

// B11: a stranger's end, with whatever status, is reaped and reported, and nothing else happens.
func TestReaperOrphan(t *testing.T) { runAlone(t, "orphan") }

// B10: no exit of a command is stolen.
func TestReaperCommands(t *testing.T) { runAlone(t, "commands") }

// B10: nor that of a child that somebody waits for in his own way.
func TestReaperRawFork(t *testing.T) { runAlone(t, "raw") }

// B10: a command may be waited for much later. One that is released is nobody's.
func TestReaperHeld(t *testing.T) { runAlone(t, "held") }

// Without an end of a child nothing is looked at.
func TestReaperQuiet(t *testing.T) { runAlone(t, "quiet") }

type reaped struct {
	pid    int
	status syscall.WaitStatus
}

// startReaper runs a reaper for the rest of the process.
func startReaper() (*Reaper, chan reaped) {
	all := make(chan reaped, 1000)
	r := &Reaper{Reaped: func(pid int, status syscall.WaitStatus) { all <- reaped{pid, status} }}
	go r.Run(nil)
	return r, all
}

func await(all chan reaped, want reaped) error {
	select {
	case got := <-all:
		if got != want {
			return fmt.Errorf("reaped %+v, want %+v", got, want)
		}
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("%+v was not reaped", want)
	}
}

func orphanRole([]string) error {
	if err := Subreaper(); err != nil {
		return err
	}
	r, all := startReaper()
	// B11: 3 is what some prefork servers take for "this program cannot start".
	out, err := exec.Command("sh", "-c", `sh -c 'sleep 0.2; exit 3' >&- & echo $!`).Output()
	if err != nil {
		return err
	}
	var pid int
	if _, err := fmt.Sscan(string(out), &pid); err != nil {
		return err
	}
	if err := await(all, reaped{pid, 3 << 8}); err != nil {
		return err
	}
	if _, err := os.Stat(theProc.dir(pid)); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("a reaped process is still there: %v", err)
	}
	if n := r.looks.Load(); n > 5 {
		return fmt.Errorf("it took %d looks", n)
	}
	fmt.Println("ok")
	return nil
}

func commandsRole([]string) error {
	if err := Subreaper(); err != nil {
		return err
	}
	r, all := startReaper()
	var wg sync.WaitGroup
	errs := make(chan error, 300)
	for i := range cap(errs) {
		wg.Go(func() {
			// They end over the time of several looks; each leaves an orphan, so that there is always a zombie.
			err := exec.Command("sh", "-c", fmt.Sprintf("(sleep 0.%d &) ; sleep %d.%d; exit %d", i%10, i/100, i%100, i%7)).Run()
			code := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code, err = exit.ExitCode(), nil
			}
			if err != nil || code != i%7 {
				errs <- fmt.Errorf("command %d: status %d (%v), want %d", i, code, err, i%7)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		return err
	}
	for range cap(errs) {
		select {
		case <-all:
		case <-time.After(20 * time.Second):
			return errors.New("not all orphans were reaped")
		}
	}
	if n := r.looks.Load(); n > 30 {
		return fmt.Errorf("it took %d looks", n)
	}
	fmt.Println("ok")
	return nil
}

func rawRole([]string) error {
	_, all := startReaper()
	for begin := time.Now(); time.Since(begin) < 4*ripe; {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 5"}, nil)
		if err != nil {
			return err
		}
		// Whenever the reaper looks, it sees this zombie for the first time.
		if err := poll(func() bool { s, err := theProc.stat(pid); return err == nil && s.ended() }); err != nil {
			return err
		}
		time.Sleep(ripe / 2)
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 5 {
			return fmt.Errorf("wait: status %d (%v), want 5", status.ExitStatus(), err)
		}
	}
	if n := len(all); n > 0 {
		return fmt.Errorf("%d were reaped", n)
	}
	fmt.Println("ok")
	return nil
}

func heldRole([]string) error {
	r, all := startReaper()
	late, released := exec.Command("sh", "-c", "exit 4"), exec.Command("sh", "-c", "exit 5")
	if err := errors.Join(late.Start(), released.Start()); err != nil {
		return err
	}
	pid := released.Process.Pid
	if err := released.Process.Release(); err != nil {
		return err
	}
	if err := await(all, reaped{pid, 5 << 8}); err != nil {
		return err
	}
	n := r.looks.Load()
	time.Sleep(5 * ripe)
	// The pauses double: looks at 1, 3 and 7 s.
	if more := r.looks.Load() - n; more > 3 {
		return fmt.Errorf("%d looks at what somebody holds", more)
	}
	if err := late.Wait(); err == nil || late.ProcessState.ExitCode() != 4 {
		return fmt.Errorf("late wait: %v, want status 4", err)
	}
	fmt.Println("ok")
	return nil
}

func quietRole([]string) error {
	cat := exec.Command("cat")
	stdin, err := cat.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cat.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cat.Start(); err != nil {
		return err
	}
	r, _ := startReaper()
	// One look when it starts, and no other.
	if err := poll(func() bool { return r.looks.Load() == 1 }); err != nil {
		return err
	}
	time.Sleep(3 * ripe)
	if n := r.looks.Load(); n != 1 {
		return fmt.Errorf("%d looks without a signal, want 1", n)
	}
	fmt.Fprintln(stdin, "x")
	if s, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || strings.TrimSpace(s) != "x" {
		return fmt.Errorf("%q, %v", s, err)
	}
	stdin.Close()
	if err := cat.Wait(); err != nil {
		return err
	}
	if err := poll(func() bool { return r.looks.Load() == 2 }); err != nil {
		return err
	}
	time.Sleep(2 * ripe)
	if n := r.looks.Load(); n != 2 {
		return fmt.Errorf("%d looks after one signal, want 1", n-1)
	}
	fmt.Println("ok")
	return nil
}

func TestReaperStops(t *testing.T) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		new(Reaper).Run(done)
	}()
	close(done)
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("Run goes on")
	}
}
