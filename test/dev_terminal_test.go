package test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Errors are coloured on a terminal, unless NO_COLOR is set.
func TestDevColours(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	for _, c := range []struct {
		env  string
		want bool
	}{{"TERM=xterm", true}, {"NO_COLOR=1", false}, {"TERM=dumb", false}} {
		t.Run(c.env, func(t *testing.T) {
			t.Parallel()
			w := openWorkshop(t)
			w.edit("main.go", "lib.Text", "lib.Nothing")
			terminal, side := openTerminal(t)
			go func() {
				buf := make([]byte, 4096)
				for {
					n, err := terminal.Read(buf)
					w.out.Write(buf[:n])
					if err != nil {
						return
					}
				}
			}()
			w.devEnv, w.stderr = []string{c.env}, side
			w.start()
			w.says(1, "undefined: lib.Nothing")
			if got := strings.Contains(w.out.String(), "\x1b[31m"); got != c.want {
				t.Errorf("coloured: %v, want %v:\n%q", got, c.want, w.out.String())
			}
		})
	}
}

// openTerminal returns both sides of a pseudoterminal, pty(7).
func openTerminal(t *testing.T) (master, side *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs pseudoterminals: ", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		side, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { side.Close() })
	return master, side
}
