package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A viewer is brood top on a terminal of its own.
type viewer struct {
	t        *testing.T
	terminal *os.File
	side     *os.File
	before   *unix.Termios
	cmd      *exec.Cmd
	exited   chan error
	out      output
	wider    bool
}

// watch starts brood top, which leads a session of its own, as in a window.
func watch(t *testing.T, s *site, args ...string) *viewer {
	t.Helper()
	v := &viewer{t: t, exited: make(chan error, 1)}
	v.terminal, v.side = openTerminal(t)
	v.resize()
	var err error
	if v.before, err = unix.IoctlGetTermios(int(v.side.Fd()), unix.TCGETS); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := v.terminal.Read(buf)
			v.out.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	v.cmd = s.command("brood", append([]string{"top", "--interval", "100ms"}, args...)...)
	v.cmd.Env = append(v.cmd.Env, "TERM=xterm")
	v.cmd.Stdin, v.cmd.Stdout, v.cmd.Stderr = v.side, v.side, v.side
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { v.exited <- v.cmd.Wait() }()
	t.Cleanup(func() { v.cmd.Process.Kill() })
	return v
}

// resize changes the size of the terminal, so that all of the screen is drawn anew.
func (v *viewer) resize() {
	v.t.Helper()
	size := unix.Winsize{Row: 30, Col: 150}
	if v.wider = !v.wider; v.wider {
		size = unix.Winsize{Row: 31, Col: 160}
	}
	if err := unix.IoctlSetWinsize(int(v.side.Fd()), unix.TIOCSWINSZ, &size); err != nil {
		v.t.Fatal(err)
	}
}

var controls = regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]`)

// shows waits until all that is on the screen at the same time. Only what has changed is written to a terminal, so it is resized
// again and again.
func (v *viewer) shows(patterns ...string) {
	v.t.Helper()
	screen := ""
	err := eventually(patience, func() error {
		from := len(v.out.String())
		v.resize()
		for range 20 {
			time.Sleep(10 * time.Millisecond)
			screen = controls.ReplaceAllString(v.out.String()[from:], "")
			if strings.Contains(screen, "jobs/s") {
				break
			}
		}
		for _, p := range patterns {
			if !regexp.MustCompile(p).MatchString(screen) {
				return fmt.Errorf("no %q", p)
			}
		}
		return nil
	})
	if err != nil {
		v.t.Fatalf("%v on the screen:\n%s", err, screen)
	}
}

// press types keys.
func (v *viewer) press(keys string) {
	v.t.Helper()
	if _, err := v.terminal.WriteString(keys); err != nil {
		v.t.Fatal(err)
	}
}

// ends waits until it has exited well and looks whether the terminal is as it was.
func (v *viewer) ends() {
	v.t.Helper()
	select {
	case err := <-v.exited:
		if err != nil {
			v.t.Errorf("brood top: %v", err)
		}
	case <-time.After(patience):
		v.t.Fatal("brood top does not end")
	}
	after, err := unix.IoctlGetTermios(int(v.side.Fd()), unix.TCGETS)
	if err != nil || *after != *v.before {
		v.t.Errorf("the terminal's settings, before and after: %v\n%+v\n%+v", err, v.before, after)
	}
	err = eventually(patience, func() error {
		text := v.out.String()
		if off := strings.LastIndex(text, "\x1b[?1049l"); off < 0 || off < strings.LastIndex(text, "\x1b[?1049h") {
			return fmt.Errorf("the alternate screen is left on: %q", text)
		}
		if strings.LastIndex(text, "\x1b[?25h") < strings.LastIndex(text, "\x1b[?25l") {
			return fmt.Errorf("the cursor is hidden: %q", text)
		}
		return nil
	})
	if err != nil {
		v.t.Error(err)
	}
}

// An operator looks at a daemon, kills one child and drains another, and looks on when the parent is stopped and when it is dead.
func TestTop(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	s := openSite(t)
	d := mustServe(t, s, "jobs")
	client := exec.Command("curl", "-s", "http://"+d.addr+"/job?seconds=60&kind=sleep&id=a")
	if err := client.Start(); err != nil {
		t.Skip("needs curl: ", err)
	}
	defer client.Wait()
	defer client.Process.Kill()
	busy := mustPick(t, d, "busy=true")
	idle := mustPick(t, d, "busy=false")

	v := watch(t, s, d.run)
	v.shows(`jobs: serving, generation 1, pid `+fmt.Sprint(d.pid), `pool: 2 idle, 1 working`, `\d+\.\d jobs/s, sorted by slot`,
		fmt.Sprintf(`%d +1 +W working +1 .*GET /job`, busy), ` serving +gen=1  children=3`)
	v.press("s")
	v.shows("sorted by state")
	v.press("?")
	v.shows("finishes its jobs and is replaced", "any key goes back")
	v.press(" ")

	// Not without an answer, and not after any other than yes.
	v.press(fmt.Sprintf("/%d\rk", busy))
	v.shows("1 of 3 children contain", fmt.Sprintf(`kill child %d, slot \d: its job 1 ends with it\. Sure\? \(y/n\)`, busy))
	v.press("n")
	v.shows("nothing is done")
	if isGone(busy) {
		t.Fatal("the child is gone")
	}
	v.press("k")
	v.shows("Sure")
	v.press("y")
	v.shows(fmt.Sprintf(`kill child %d, slot \d: done`, busy), fmt.Sprintf(`replaces %d: died, signal: killed`, busy))
	if _, err := d.await("children=3", "idle=3", "died=1"); err != nil || !isGone(busy) {
		t.Fatal(err)
	}
	v.press("\x1b")
	v.shows("jobs/s, sorted by state[^,]") // the filter is gone
	v.press(fmt.Sprintf("/%d\rd", idle))
	v.shows(fmt.Sprintf(`drain child %d, slot \d: it finishes`, idle))
	v.press("y")
	v.shows(fmt.Sprintf(`drain child %d, slot \d: done`, idle))
	if err := eventually(patience, func() error {
		if !isGone(idle) {
			return fmt.Errorf("child %d is still there", idle)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.await("children=3", "idle=3", "died=1", "killed=0"); err != nil {
		t.Fatal(err)
	}

	// The parent, if it can, has said why.
	v.shows(fmt.Sprintf(`drain +slot=\d pid=%d gen=1  operator uid=%d`, idle, os.Getuid()))

	// If it cannot, nobody waits for it: the child is told by a signal.
	v.press("/\x1b")
	if err := kill(d.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	v.shows(fmt.Sprintf("the parent, process %d, is stopped", d.pid), "pool: 3 idle")
	last := mustPick(t, d, "state=idle")
	v.press(fmt.Sprintf("/%d\rdy", last))
	v.shows(fmt.Sprintf(`drain child %d, slot \d: done`, last))
	if err := eventually(patience, func() error {
		if p, err := lookAt(last); err == nil && p.state != 'Z' { // nobody takes note of its end
			return fmt.Errorf("%v is still there", p)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := kill(d.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	v.shows("jobs: dead, generation 1", fmt.Sprintf("the parent, process %d, is dead", d.pid))
	v.press("q")
	v.ends()
}

// However it is ended the terminal is as before; and when the daemon stops, it goes on showing what it has seen.
func TestTopEnds(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	s := openSite(t)
	d := mustServe(t, s, "jobs")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		v := watch(t, s, d.run)
		v.shows("jobs: serving")
		v.cmd.Process.Signal(sig)
		v.ends()
	}
	// Without keys, or without a screen, it does not begin.
	for _, env := range []string{"TERM=xterm", "TERM=dumb"} {
		out, err := onTerminal(t, s, 80, []string{env}, "top", d.run)
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.HasPrefix(out, "brood: top: it takes a terminal") {
			t.Errorf("%s: %v: %q", env, err, out)
		}
	}
	ctrlC := watch(t, s, d.run)
	ctrlC.shows("jobs: serving")
	ctrlC.press("\x03")
	ctrlC.ends()
	v := watch(t, s, d.run)
	v.shows("jobs: serving")
	if out, err := s.command("brood", "stop", d.run).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	v.shows("jobs: dead", "nothing new can be seen: not running: there is no ", "of 3 wanted") // how many, it may have seen in the middle of the stop
	v.press("q")
	v.ends()
}
