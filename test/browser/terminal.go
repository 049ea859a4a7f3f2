package browser

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
)

// A Terminal has a program on it, and remembers what the program has written.
type Terminal struct {
	*Screen
	cmd    *exec.Cmd
	master *os.File
	done   chan struct{} // closed when nothing is written any more

	mu    sync.Mutex
	tape  []Output
	begun time.Time
}

// An Output is what a program has written at one time.
type Output struct {
	At   time.Duration // since the first one
	Text string        // of whole characters
}

// Terminal starts a program on a terminal of its own, as the leader of a session.
func (s *Site) Terminal(cmd *exec.Cmd, columns, rows int) (*Terminal, error) {
	cmd.Env = append(cmd.Env, "TERM=xterm-256color", "LANG=C.UTF-8", "NO_COLOR=")
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
	if err != nil {
		return nil, fmt.Errorf("%v: %w", cmd.Args, err)
	}
	t := &Terminal{Screen: NewScreen(columns, rows, master), cmd: cmd, master: master, done: make(chan struct{})}
	go t.listen()
	s.ends = append(s.ends, t.End)
	return t, nil
}

// listen takes what is written until nobody has the terminal open.
func (t *Terminal) listen() {
	defer close(t.done)
	buf, held := make([]byte, 64<<10), 0
	for {
		n, err := t.master.Read(buf[held:])
		if err != nil {
			return
		}
		n += held
		whole := n - cut(buf[:n])
		t.Screen.Write(buf[:whole])
		t.mu.Lock()
		if t.begun.IsZero() {
			t.begun = time.Now()
		}
		t.tape = append(t.tape, Output{time.Since(t.begun), string(buf[:whole])})
		t.mu.Unlock()
		held = copy(buf, buf[whole:n])
	}
}

// cut returns how many bytes at the end are the beginning of a character.
func cut(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}

// Tape returns what has been written until now.
func (t *Terminal) Tape() []Output {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tape[:len(t.tape):len(t.tape)]
}

// Type types keys, with so much time for each.
func (t *Terminal) Type(keys string, each time.Duration) error {
	for _, k := range keys {
		if _, err := t.master.WriteString(string(k)); err != nil {
			return err
		}
		time.Sleep(each)
	}
	return nil
}

// Await waits until the screen shows what a regular expression describes, and returns the match with its groups.
func (t *Terminal) Await(pattern string) ([]string, error) {
	var match []string
	expression := regexp.MustCompile(pattern)
	err := Eventually(func() error {
		text := t.String()
		if match = expression.FindStringSubmatch(text); match == nil {
			return fmt.Errorf("no %s on the screen:\n%s", pattern, text)
		}
		return nil
	})
	return match, err
}

// End ends the program, and what else has the terminal for its own, as when a window is closed.
func (t *Terminal) End() {
	if t.cmd.ProcessState != nil {
		return
	}
	t.cmd.Process.Signal(syscall.SIGHUP)
	kill := time.AfterFunc(Patience, func() { t.cmd.Process.Kill() })
	t.cmd.Wait()
	kill.Stop()
	t.master.Close()
	<-t.done
}
