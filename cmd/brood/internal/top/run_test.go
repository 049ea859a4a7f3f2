package top

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/sys/unix"
)

// A stranger is a model that does what the test wants when the first key comes.
type stranger struct {
	do      string
	pressed bool
}

func (s stranger) Init() tea.Cmd { return nil }

func (s stranger) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if _, ok := msg.(tea.KeyPressMsg); ok {
		switch s.pressed = true; s.do {
		case "quit":
			return s, tea.Quit
		case "panic in Update":
			panic("in Update")
		case "panic in a look":
			return s, func() tea.Msg { panic("in a look") }
		}
	}
	return s, nil
}

func (s stranger) View() tea.View {
	if s.pressed && s.do == "panic in View" {
		panic("in View")
	}
	v := tea.NewView("here I am")
	v.AltScreen = true
	return v
}

// However it ends, the terminal is as it was: its settings, the screen and the cursor.
func TestTerminalIsRestored(t *testing.T) {
	for _, c := range []struct {
		do     string
		signal unix.Signal
		fails  bool
	}{
		{do: "quit"}, {do: "panic in View", fails: true}, {do: "panic in Update", fails: true}, {do: "panic in a look", fails: true},
		{do: "SIGTERM", signal: unix.SIGTERM}, {do: "SIGINT", signal: unix.SIGINT}, {do: "SIGHUP", signal: unix.SIGHUP}, {do: "SIGQUIT", signal: unix.SIGQUIT},
	} {
		t.Run(c.do, func(t *testing.T) {
			master, side := openTerminal(t)
			before, err := unix.IoctlGetTermios(int(side.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			out := follow(master)
			ended := make(chan error, 1)
			go func() { ended <- Run(stranger{do: c.do}, side, side) }()
			out.await(t, "here I am")
			if raw, err := unix.IoctlGetTermios(int(side.Fd()), unix.TCGETS); err != nil || raw.Lflag&unix.ECHO != 0 {
				t.Fatalf("the terminal echoes what is typed: %v", err)
			}
			if c.signal != 0 {
				unix.Kill(os.Getpid(), c.signal)
			} else if _, err := master.WriteString("x"); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if (err != nil) != c.fails || err != nil && !strings.Contains(err.Error(), "run_test.go:") {
					t.Errorf("error: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it does not end")
			}
			after, err := unix.IoctlGetTermios(int(side.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal's settings, before and after: %v\n%+v\n%+v", err, before, after)
			}
			out.await(t, "\x1b[?1049l")
			text := out.String()
			if strings.LastIndex(text, "\x1b[?1049h") > strings.LastIndex(text, "\x1b[?1049l") || strings.LastIndex(text, "\x1b[?25l") > strings.LastIndex(text, "\x1b[?25h") {
				t.Errorf("the alternate screen is left on, or the cursor is hidden: %q", text)
			}
		})
	}
}

// A screen collects what is written to a terminal.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func follow(master *os.File) *screen {
	s := &screen{}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in %q", text, s.String())
		}
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
	if err == nil {
		err = unix.IoctlSetWinsize(int(side.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { side.Close() })
	return master, side
}
