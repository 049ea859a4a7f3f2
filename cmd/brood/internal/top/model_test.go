package top

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/scoreboard"
)

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

const evil = "GET /\x1b[2J\x1b]0;owned\a\r\nq\u202e\u0301世界"

// lookAt is what there is to see some seconds after noon.
func lookAt(seconds int) Look {
	now := noon.Add(time.Duration(seconds) * time.Second)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	d := &view.Daemon{Running: true, Snapshot: &scoreboard.Snapshot{
		Identity: scoreboard.Identity{Name: "jobs", PID: 4711, Start: 7}, Created: ago(time.Hour), Listen: "127.0.0.1:8080",
		Status: scoreboard.Status{State: "serving", Generation: 2, Want: 4, Born: 9, Killed: 1, Lost: 1, Done: uint64(100 + 5*seconds),
			ReloadAt: ago(time.Minute), ReloadOK: true, Reload: "operator uid=0"},
	}, Children: []view.Child{
		{Child: scoreboard.Child{Slot: 0, PID: 4720, Generation: 1, State: scoreboard.Draining, Since: ago(50 * time.Second), Born: noon, Cause: "start",
			Done: 9, Running: 1, Job: 17, Client: "192.0.2.7:41000", Text: "GET /job", Left: 10 * time.Minute}, Memory: 30 << 20},
		{Child: scoreboard.Child{Slot: 3, PID: 4730, Generation: 2, State: scoreboard.Idle, Since: ago(3 * time.Second), Born: noon,
			Cause: "reload: operator uid=0", Done: 4}, Memory: 9 << 20},
		{Child: scoreboard.Child{Slot: 4, PID: 4731, Generation: 2, State: scoreboard.Working, Since: ago(time.Second), Born: noon,
			Cause: "replaces 4729: client of job 2 has left", Done: 3, Running: 1, Job: 18, Client: "[2001:db8::1]:55618", Text: evil}, Memory: 10 << 20},
		{Child: scoreboard.Child{Slot: 5, PID: 4732, Generation: 2, State: scoreboard.Cancelling, Since: now, Born: noon, Cause: "grow", Running: 1, Job: 19}},
		{Child: scoreboard.Child{Slot: 6, PID: 4733, Generation: 2, State: scoreboard.State(0x1b), Torn: true, Since: now, Born: noon, Cause: "grow"}},
	}}
	events := []scoreboard.Event{}
	for i := range 7 {
		events = append(events, scoreboard.Event{Seq: uint64(i + 1), Time: noon.Add(time.Duration(i) * time.Second), Kind: scoreboard.EventGone,
			PID: 4731, Slot: 4, Generation: 2, Job: uint64(i), Text: "closed, kill, " + evil})
	}
	return Look{At: now, Daemon: d, Events: events}
}

// change makes another look of one.
func change(l Look, f func(d *view.Daemon)) looked {
	f(l.Daemon)
	return looked(l)
}

// keys turns names of keys into messages.
func pressed(names ...string) []tea.Msg {
	special := map[string]rune{"up": tea.KeyUp, "down": tea.KeyDown, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "home": tea.KeyHome, "end": tea.KeyEnd,
		"enter": tea.KeyEnter, "esc": tea.KeyEscape, "backspace": tea.KeyBackspace}
	var all []tea.Msg
	for _, name := range names {
		if code, ok := special[name]; ok {
			all = append(all, tea.KeyPressMsg{Code: code})
		} else {
			all = append(all, tea.KeyPressMsg{Code: []rune(name)[0], Text: name})
		}
	}
	return all
}

// play gives a model messages, and what the commands that follow from keys return.
func play(t *testing.T, m Model, messages ...tea.Msg) Model {
	t.Helper()
	for _, msg := range messages {
		next, cmd := m.Update(msg)
		m = next.(Model)
		if _, key := msg.(tea.KeyPressMsg); key && cmd != nil {
			if result := cmd(); result != (tea.QuitMsg{}) {
				next, _ = m.Update(result)
				m = next.(Model)
			}
		}
	}
	return m
}

func TestScreens(t *testing.T) {
	size := tea.WindowSizeMsg{Width: 130, Height: 24}
	crowd := change(lookAt(2), func(d *view.Daemon) {
		d.Children = nil
		for i := range 60 {
			d.Children = append(d.Children, view.Child{Child: scoreboard.Child{Slot: i, PID: 5000 + i, Generation: 2, State: scoreboard.Idle, Since: noon, Born: noon, Cause: "grow"}})
		}
	})
	looks := []tea.Msg{size, looked(lookAt(0)), looked(lookAt(2))}
	for name, messages := range map[string][]tea.Msg{
		"looking": {size},
		"first":   {size, looked(lookAt(0))},
		"rate":    looks,
		"narrow":  append(looks, tea.WindowSizeMsg{Width: 64, Height: 20}),
		"low":     append(looks, tea.WindowSizeMsg{Width: 100, Height: 9}),
		"tiny":    append(looks, tea.WindowSizeMsg{Width: 12, Height: 2}),
		"crowd":   append(append(looks, crowd), pressed("end", "up", "up")...),
		"pages":   append(append(looks, crowd), pressed("pgdown", "pgdown", "pgup")...),
		"memory":  append(looks, pressed("s", "s", "s", "s")...),
		"typing":  append(looks, pressed("/", "G", "2", "x", "backspace")...),
		"filter":  append(looks, pressed("/", "G", "2", "enter", "down")...),
		"nobody":  append(looks, pressed("/", "\x1b", "世", "enter", "k")...),
		"dropped": append(looks, pressed("/", "g", "2", "esc")...),
		"help":    append(looks, pressed("?")...),
		"kill":    append(looks, pressed("down", "down", "k")...),
		"killed":  append(looks, pressed("down", "down", "k", "y")...),
		"drain":   append(looks, pressed("d")...),
		"refused": append(looks, pressed("d", "y")...),
		"no":      append(looks, pressed("k", "n")...),
		"stopped": append(looks, change(lookAt(3), func(d *view.Daemon) { d.Stopped = true })),
		"dead":    append(looks, change(lookAt(3), func(d *view.Daemon) { d.Running = false })),
		"gone":    append(looks, looked{At: noon, Err: errors.New("not running: there is no /run/jobs/scoreboard\x1b")}),
		"never":   {size, looked{At: noon, Err: errors.New("not running: there is no /run/jobs/scoreboard")}},
	} {
		t.Run(name, func(t *testing.T) {
			m := play(t, New(Options{Act: func(a Action, c scoreboard.Child) error {
				if a == Drain {
					return errors.New("process 4720 has ended")
				}
				return nil
			}}), messages...)
			content := m.View().Content
			if n := strings.Count(content, inverse+marker); n > 1 || strings.Contains(strings.NewReplacer(inverse, "", plain, "").Replace(content), "\x1b") {
				t.Errorf("%d lines are selected, or something else is coloured:\n%q", n, content)
			}
			got := ansi.Strip(content) + "\n"
			lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
			if len(lines) != m.height {
				t.Errorf("%d lines on a screen of %d", len(lines), m.height)
			}
			for i, line := range lines {
				if view.Width(line) > m.width {
					t.Errorf("line %d is %d wide on a screen of %d: %q", i, view.Width(line), m.width, line)
				}
			}
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("-want +got; go test ./cmd/brood/internal/top -update writes what it is now\n%s", diff)
			}
		})
	}
}

// Whatever the size of the terminal, the screen has it.
func TestAnySize(t *testing.T) {
	m := play(t, New(Options{Palette: true}), looked(lookAt(0)), looked(lookAt(1)))
	for width := 1; width < 140; width += 3 {
		for height := 1; height < 40; height++ {
			for _, key := range []string{"", "?", "k", "/"} {
				m := play(t, m, tea.WindowSizeMsg{Width: width, Height: height})
				if key != "" {
					m = play(t, m, pressed(key)...)
				}
				lines := strings.Split(m.View().Content, "\n")
				if len(lines) != height {
					t.Fatalf("%d×%d, key %q: %d lines", width, height, key, len(lines))
				}
				for _, line := range lines {
					if view.Width(line) > width {
						t.Fatalf("%d×%d, key %q: a line of %d: %q", width, height, key, view.Width(line), line)
					}
				}
			}
		}
	}
	if !m.View().AltScreen {
		t.Error("not on the alternate screen")
	}
}

// The selection stays with its child, wherever the order puts it, and when it is gone at its place.
func TestSelection(t *testing.T) {
	var done []string
	m := play(t, New(Options{Act: func(a Action, c scoreboard.Child) error {
		done = append(done, fmt.Sprint(a, c.PID))
		return nil
	}}), tea.WindowSizeMsg{Width: 100, Height: 30}, looked(lookAt(0)))
	expect := func(pid, cursor int) {
		t.Helper()
		if m.chosen.pid != pid || m.cursor != cursor {
			t.Errorf("child %d in row %d is selected, want %d in row %d", m.chosen.pid, m.cursor, pid, cursor)
		}
	}
	expect(4720, 0)
	m = play(t, m, pressed("down", "down")...)
	expect(4731, 2)
	for _, row := range []int{2, 2, 2, 1, 2} { // state, since, jobs, memory, slot
		m = play(t, m, pressed("s")...)
		expect(4731, row)
	}
	// A question is about the child that was selected when it was asked.
	m = play(t, m, pressed("k")...)
	m = play(t, m, change(lookAt(1), func(d *view.Daemon) { d.Children = d.Children[:2] }))
	expect(4730, 1)
	m = play(t, m, pressed("y")...)
	m = play(t, m, pressed("d", "y", "k", "esc", "k", "q", "d", "Y")...)
	if diff := cmp.Diff([]string{"1 4731", "0 4730"}, done); diff != "" {
		t.Errorf("what was done, -want +got:\n%s", diff)
	}
	// The same process id in the same slot is another child.
	m = play(t, m, change(lookAt(2), func(d *view.Daemon) { d.Children[1].Born = noon.Add(time.Second) }))
	expect(4730, 1)
	if m.chosen.born != noon.Add(time.Second).UnixNano() {
		t.Error("the selection is on a child that is gone")
	}
	m = play(t, m, pressed("up", "up", "up")...)
	expect(4720, 0)
	m = play(t, m, pressed("end", "down")...)
	expect(4733, 4)
}

// Which keys end it.
func TestQuit(t *testing.T) {
	quits := func(m Model, key tea.KeyPressMsg) bool {
		_, cmd := m.Update(key)
		return cmd != nil && cmd() == tea.QuitMsg{}
	}
	ctrlC := tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
	q := tea.KeyPressMsg{Code: 'q', Text: "q"}
	esc := tea.KeyPressMsg{Code: tea.KeyEscape}
	m := play(t, New(Options{}), looked(lookAt(0)))
	for _, c := range []struct {
		keys   []string
		q, esc bool
	}{{nil, true, true}, {[]string{"k"}, false, false}, {[]string{"/"}, false, false}, {[]string{"?"}, false, false}, {[]string{"/", "x", "enter"}, true, false}} {
		m := play(t, m, pressed(c.keys...)...)
		if got := quits(m, q); got != c.q {
			t.Errorf("after %v: q quits: %v", c.keys, got)
		}
		if got := quits(m, esc); got != c.esc {
			t.Errorf("after %v: Esc quits: %v", c.keys, got)
		}
		if !quits(m, ctrlC) {
			t.Errorf("after %v: Ctrl-C does not quit", c.keys)
		}
	}
}

// Jobs are counted over two looks at the same daemon.
func TestRate(t *testing.T) {
	m := play(t, New(Options{}), looked(lookAt(0)))
	if m.rated {
		t.Error("a rate after one look")
	}
	if m = play(t, m, looked(lookAt(2))); !m.rated || m.rate != 5 {
		t.Errorf("%v jobs/s, want 5", m.rate)
	}
	if m = play(t, m, change(lookAt(3), func(d *view.Daemon) { d.Done = 0 })); !m.rated || m.rate != 0 {
		t.Errorf("%v jobs/s, want 0: a child has ended between two reads", m.rate)
	}
	if m = play(t, m, change(lookAt(4), func(d *view.Daemon) { d.Start++ })); m.rated {
		t.Error("a rate over two daemons")
	}
}
