package view

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/scoreboard"
)

// What strangers have sent stays text, and takes the columns that it seems to take.
func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"GET /job":             "GET /job",
		"größe":                "größe",
		"世界":                   "世界",
		"a\x1b[2Jb":            `a\x1b[2Jb`,
		"one\ntwo":             "one",
		"a\tb":                 "a b",
		"\u202eevil":           `\u202eevil`,
		"e\u0301":              `e\u0301`,              // a mark stands on what is before it
		"\u200b":               `\u200b`,               // nothing at all
		"👩\u200d👩":             `👩\u200d👩`,             // one picture or two
		"\U0001f1e9\U0001f1ea": `\U0001f1e9\U0001f1ea`, // a flag or two letters
		"👍\U0001f3fd":          `👍\U0001f3fd`,          // one hand or a hand and a square
		"\u1112\u1161\u11ab":   `ᄒ\u1161\u11ab`,        // one syllable or three letters
		"\ue000\U000e0041\xf4": `\ue000\U000e0041\xf4`, // nobody's characters
		"\xff":                 `\xff`,
	} {
		if got := Safe(in); got != want {
			t.Errorf("Safe(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[uint64]string{0: "-", 1 << 10: "1K", 900 << 10: "900K", 10 << 20: "10.0M", 3 << 29: "1.5G"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) is %s, want %s", n, got, want)
		}
	}
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 45678 * time.Microsecond: "46ms", 3140 * time.Millisecond: "3.1s", 62700 * time.Millisecond: "1m3s",
	} {
		if got := Age(now, now.Add(-d)); got != want {
			t.Errorf("Age of %v is %s, want %s", d, got, want)
		}
	}
}

func someChildren(now time.Time) []Child {
	return []Child{
		{Child: scoreboard.Child{Slot: 0, PID: 4720, Generation: 1, State: scoreboard.Working, Since: now.Add(-3 * time.Second), Born: now.Add(-time.Minute),
			Cause: "replaces 4711: the client of job 2 has left", Job: 7, Client: "192.0.2.1:55618", Text: "GET /世界世界世界世界世界?q=" + strings.Repeat("x", 150),
			Left: 90 * time.Second, Running: 3}, Memory: 12 << 20},
		{Child: scoreboard.Child{Slot: 11, PID: 4721, Generation: 1, State: scoreboard.Idle, Since: now, Born: now, Cause: "start"}},
		{Child: scoreboard.Child{Slot: 12, PID: 4722, Generation: 1, State: scoreboard.State(0x1b), Torn: true, Cause: "\x1b]0;evil\a\r\n"}},
	}
}

// Each line fits the terminal, the columns stand one below the other also behind wide characters, and what is not text is whole as long
// as there is room for it.
func TestTabulate(t *testing.T) {
	now := time.Now()
	for width := range 300 {
		table := Tabulate(someChildren(now), now, width)
		lines := append([]string{table.Head}, table.Rows...)
		for _, line := range lines {
			if w := Width(line); width > 0 && w > width {
				t.Fatalf("width %d: a line takes %d: %q", width, w, line)
			}
			if strings.ContainsAny(line, "\x1b\a\r\n") {
				t.Fatalf("width %d: %q", width, line)
			}
		}
		if width == 0 || width >= 110 {
			at := Width(table.Head[:strings.Index(table.Head, "SINCE")])
			for i, since := range []string{"3s", "0s", "-"} {
				if cell := columnsFrom(table.Rows[i], at); !strings.HasPrefix(cell, since+" ") {
					t.Fatalf("width %d: %q stands under SINCE of\n%s\n%s", width, cell, table.Head, table.Rows[i])
				}
			}
		}
	}
	wide := Tabulate(someChildren(now), now, 0)
	if !strings.Contains(wide.Rows[0], "1m30s") || !strings.Contains(wide.Rows[0], "12.0M") || !strings.Contains(wide.Rows[0], " (and 2 more)") ||
		!strings.Contains(wide.Rows[2], "unknown: stopped while writing") || strings.Contains(wide.Head, "KIND") {
		t.Errorf("%s\n%s", wide.Head, strings.Join(wide.Rows, "\n"))
	}
	all := someChildren(now)
	all[1].Kind = scoreboard.Dequeue
	if kinds := Tabulate(all, now, 0); !strings.Contains(kinds.Head, "KIND") || !strings.Contains(kinds.Rows[1], "dequeue") ||
		!slices.Equal(kinds.Colours, []Colour{Green, None, Red}) {
		t.Errorf("%q\n%q\n%q", kinds.Head, kinds.Rows, kinds.Colours)
	}
}

// columnsFrom is what stands in a line from a column of the screen on.
func columnsFrom(line string, at int) string {
	for i := range line {
		if Width(line[:i]) == at {
			return line[i:]
		}
	}
	return ""
}

func TestHead(t *testing.T) {
	now := time.Now()
	d := &Daemon{Snapshot: &scoreboard.Snapshot{
		Identity: scoreboard.Identity{Name: "jobs", PID: 4711}, Created: now.Add(-time.Hour), Listen: ":80",
		Status: scoreboard.Status{State: "degraded", Generation: 1, Rolling: 2, Want: 3, Trouble: "evil\x1b", ReloadAt: now, Reload: "x", Skipped: 1, Refused: 2},
	}, Children: someChildren(now), Running: true, Stopped: true}
	d.Children[1].Generation, d.Children[1].Kind, d.Children[2].State = 2, scoreboard.Dequeue, scoreboard.Draining
	want := `jobs: degraded, generation 1 (2 is coming), pid 4711, up 1h0m0s, listening on :80
the parent, process 4711, is stopped and decides nothing: kill -CONT 4711 wakes it
generation 2: 1 child; generation 1: 2 children, 1 draining
children 2 of 3 wanted and 1 dequeue, 0 born, 0 died, 0 killed; jobs done 0, clients lost 0, skipped 1, refused 2
pool: 1 idle, 1 working, 1 draining
last reload FAILED 0s ago: x
degraded: evil\x1b`
	if got := strings.Join(d.Head(now, false), "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	d.Running, d.Stopped = false, false
	if got := d.Head(now, true); !strings.Contains(got[0], string(Red)+"dead") || strings.Contains(strings.Join(got, "\n"), "degraded") {
		t.Errorf("of a dead one: %q", got)
	}
}

// The memory is that of the child and not of who has got its number. B1
func TestWhoseMemory(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	before := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // it has none while it begins
		if p, err := ProcessOf(cmd.Process.Pid); err != nil || time.Now().After(deadline) {
			t.Fatal(p, err)
		} else if p.Resident > 0 {
			break
		}
	}
	for _, c := range []struct {
		name    string
		born    time.Time
		running bool
		parent  int
		want    bool
	}{
		{"a child", before, true, os.Getpid(), true},
		{"one that a hook held back", before.Add(-time.Minute), true, os.Getpid(), true},
		{"another parent's", before, true, 1, false},
		{"started before the child was", before.Add(time.Minute), true, os.Getpid(), false},
		{"an orphan", before, false, 1, true},
		{"who got an orphan's number", before.Add(-time.Minute), false, 1, false},
	} {
		d := &Daemon{Running: c.running, Snapshot: &scoreboard.Snapshot{Identity: scoreboard.Identity{PID: c.parent}}}
		if m := d.memory(scoreboard.Child{PID: cmd.Process.Pid, Born: c.born}); (m != 0) != c.want {
			t.Errorf("%s: %d bytes, want some: %v", c.name, m, c.want)
		}
	}
	if m := (&Daemon{Snapshot: &scoreboard.Snapshot{}}).memory(scoreboard.Child{PID: 1 << 22}); m != 0 {
		t.Errorf("nobody has %d bytes", m)
	}
}

// Who has the number of a parent that is gone is not waited for, as that parent is while its program is being replaced.
func TestAlive(t *testing.T) {
	self, err := pidfile.Self()
	if err != nil {
		t.Fatal(err)
	}
	if !Alive(self) {
		t.Error("this process does not live")
	}
	self.Start++
	least := time.Hour // of some tries: others may need the processor, too
	for range 10 {
		begun := time.Now()
		if Alive(self) {
			t.Error("one that started later lives")
		}
		least = min(least, time.Since(begun))
	}
	if least > 150*time.Millisecond {
		t.Errorf("that took %v", least)
	}
}

func TestParseStat(t *testing.T) {
	p, err := ParseStat([]byte(fmt.Sprintf("7 (a) Z (b)) S 5 %s250 0 3 0", strings.Repeat("0 ", 17))))
	if want := (Process{'S', 5, 250, 3 * uint64(os.Getpagesize())}); err != nil || p != want {
		t.Errorf("%+v, %v, want %+v", p, err, want)
	}
	for _, bad := range []string{"", "7 (a", "7 (a) S 5", "7 (a) S x " + strings.Repeat("0 ", 30)} {
		if _, err := ParseStat([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
