package test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// onTerminal runs brood with its standard output and error on a terminal of so many columns, until it exits, and returns what
// it has written.
func onTerminal(t *testing.T, s *site, columns uint16, env []string, args ...string) (string, error) {
	t.Helper()
	terminal, side := openTerminal(t)
	if err := unix.IoctlSetWinsize(int(side.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	var out output
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := terminal.Read(buf) // EIO when nobody has the other side open any more
			out.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	cmd := s.command("brood", args...)
	cmd.Env = append(append(cmd.Env, "TERM=xterm"), env...)
	cmd.Stdout, cmd.Stderr = side, side
	err := cmd.Run()
	side.Close()
	<-done
	return out.String(), err
}

var colours = regexp.MustCompile(`\x1b\[\d*m`)

// On a terminal the table of brood status is coloured and fits, but for what is no text; without one nothing is coloured or cut.
func TestStatusOnTerminal(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	s := openSite(t)
	d := mustServe(t, s, "jobs")
	if err := kill(mustPick(t, d, "slot=1"), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := d.await("idle=3", "died=1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env      string
		coloured bool
	}{{"TERM=xterm", true}, {"NO_COLOR=1", false}, {"TERM=dumb", false}} {
		for _, columns := range []uint16{80, 95, 300} {
			out, err := onTerminal(t, s, columns, []string{c.env}, "status", d.run)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got := colours.MatchString(out); got != c.coloured {
				t.Errorf("%s: coloured: %v, want %v\n%q", c.env, got, c.coloured, out)
			}
			_, table, _ := strings.Cut(colours.ReplaceAllString(out, ""), "SLOT")
			for line := range strings.Lines("SLOT" + table) {
				if n := len([]rune(strings.TrimRight(line, "\r\n"))); n > int(columns) {
					t.Errorf("%d columns, and a line of %d: %q", columns, n, line)
				}
			}
			if cut := strings.Contains(table, "…"); (columns < 100) != cut {
				t.Errorf("%d columns, and something is cut: %v\n%s", columns, cut, table)
			}
		}
	}
	out, err := s.command("brood", "status", d.run).CombinedOutput()
	if err != nil || colours.Match(out) || strings.Contains(string(out), "…") {
		t.Errorf("%v\n%q", err, out)
	}
}

// Who waits at a terminal is told how far the daemon is, in a line that is gone when it is done. Anywhere else nothing is written
// but the outcome.
func TestProgress(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	s := openSite(t)
	d := mustServe(t, s, "jobs", "-prefork", "2", "-soak", "1s")
	out, err := onTerminal(t, s, 80, nil, "reload", d.run)
	if err != nil || !regexp.MustCompile(`\r\x1b\[Kreload: generation 2: its first child is on probation \(\ds\)\r\x1b\[K`).MatchString(out) ||
		!strings.HasSuffix(out, "\r\x1b[Kreloaded\r\n") {
		t.Errorf("%v: %q", err, out)
	}
	out, err = onTerminal(t, s, 20, nil, "reload", d.run)
	for line := range strings.SplitSeq(out, "\r\x1b[K") {
		if len([]rune(strings.TrimRight(line, "\r\n"))) > 19 {
			t.Errorf("20 columns: %v, %q", err, line)
		}
	}
	if out, err = onTerminal(t, s, 80, []string{"TERM=dumb"}, "reload", d.run); err != nil || out != "reloaded\r\n" {
		t.Errorf("%v: %q", err, out)
	}
	if out, err := s.command("brood", "reload", d.run).CombinedOutput(); err != nil || string(out) != "reloaded\n" {
		t.Errorf("%v: %q", err, out)
	}
	// A job that goes on, and a client that stays.
	client := exec.Command("curl", "-s", "http://"+d.addr+"/job?seconds=2&kind=sleep&id=a")
	if err := client.Start(); err != nil {
		t.Skip("needs curl: ", err)
	}
	defer client.Wait()
	if _, err := d.pick("busy=true"); err != nil {
		t.Fatal(err)
	}
	out, err = onTerminal(t, s, 80, nil, "stop", d.run)
	if err != nil || !strings.Contains(out, "\x1b[Kstop: stopping: 1 child is left (") || !strings.Contains(out, "\r\x1b[Kstopped: process ") {
		t.Errorf("%v: %q", err, out)
	}
}

func mustPick(t *testing.T, d *server, conditions ...string) int {
	t.Helper()
	pid, err := d.pick(conditions...)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
