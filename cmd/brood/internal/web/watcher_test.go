package web

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/scoreboard"
)

// see looks at a daemon and wants it to be in a condition.
func see(t *testing.T, w *watcher, now time.Time, want condition, words ...string) {
	t.Helper()
	w.look(now, 1)
	if w.condition != want {
		t.Fatalf("it is %s (%s), want %s", w.condition, w.problem, want)
	}
	for _, word := range words {
		if !strings.Contains(w.problem, word) {
			t.Errorf("%q does not say %q", w.problem, word)
		}
	}
	if ok := w.serves() == ""; ok != (want == alive) {
		t.Errorf("%s, but it serves: %v (%s)", want, ok, w.serves())
	}
}

func watch(t *testing.T, dir string) *watcher {
	return newWatcher(Daemon{"d", dir}, self(t).BootID)
}

func TestAbsent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	w := watch(t, dir)
	see(t, w, time.Now(), absent, dir, "no ")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := newFake(t, dir, self(t))
	f.child(1, os.Getpid(), 1)
	see(t, w, time.Now(), alive)
	f.must(f.board.Record(scoreboard.Event{Kind: scoreboard.EventStop, Slot: -1, Text: "farewell"}))
	// The directory vanishes with what was written last.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	see(t, w, time.Now(), absent)
	if len(w.events) != 1 || w.events[0].Text != "farewell" {
		t.Errorf("what the parent wrote before it took its board away is not known: %v", w.events)
	}
	if d, _ := w.shown.since("d", 0); len(d.Children) != 0 || len(d.Events) != 1 {
		t.Errorf("shown of a daemon that has ended: %+v", d)
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	w := watch(t, dir)
	path := filepath.Join(dir, control.BoardName)
	f := newFake(t, dir, self(t))
	see(t, w, time.Now(), alive)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"empty":   func(b []byte) []byte { return nil },
		"cut":     func(b []byte) []byte { return b[:5000] },
		"magic":   func(b []byte) []byte { b[0] = 0; return b },
		"version": func(b []byte) []byte { b[8] = 99; return b },
		"slots":   func(b []byte) []byte { b[21] = 255; return b },
	} {
		writeFile(t, path, damage(append([]byte{}, whole...)))
		w.look(time.Now(), 1)
		if w.condition != unreadable || w.problem == "" {
			t.Errorf("%s: %s (%s)", name, w.condition, w.problem)
		}
	}
	writeFile(t, path, whole)
	see(t, w, time.Now(), alive)
	_ = f
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil { // nobody is waited for
		t.Fatal(err)
	}
	see(t, w, time.Now(), unreadable)
}

// Garbage in the slots and the ring is shown as something, or as nothing; it breaks nothing.
func TestGarbage(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	f.child(0, os.Getpid(), 1)
	b, err := os.ReadFile(filepath.Join(dir, control.BoardName))
	if err != nil {
		t.Fatal(err)
	}
	for i := scoreboard.HeaderSize; i < len(b); i++ {
		b[i] = 0xff
	}
	for i := 128; i < 768; i++ { // the status, too
		b[i] = 0xff
	}
	writeFile(t, filepath.Join(dir, control.BoardName), b)
	s := newServer(t, Daemon{"d", dir})
	for _, path := range []string{"/", "/metrics", "/healthz", "/status.json"} {
		if code, _, body := get(t, s, path); code != 200 && path != "/healthz" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if len(s.all[0].events) != 0 {
		t.Errorf("events of garbage: %v", s.all[0].events)
	}
}

// A child that was stopped while it wrote: what it does is not known, and is shown as not known.
func TestTorn(t *testing.T) { // B47
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	work(f.child(3, os.Getpid(), 1), 7, "half a text")
	file, err := os.OpenFile(filepath.Join(dir, control.BoardName), os.O_RDWR, 0)
	f.must(err)
	defer file.Close()
	const sequence = scoreboard.HeaderSize + 3*scoreboard.SlotSize + 192
	_, err = file.WriteAt([]byte{5}, sequence)
	f.must(err)
	w := watch(t, dir)
	see(t, w, time.Now(), alive)
	if c := w.shown.children[3].value; !c.Torn || c.Text != "" || c.Letter != "W" {
		t.Errorf("%+v", c)
	}
}

func TestDead(t *testing.T) {
	dir := t.TempDir()
	parent := sleeper(t)
	f := newFake(t, dir, identityOf(t, parent))
	f.child(0, os.Getpid(), 1)
	w, now := watch(t, dir), time.Now()
	see(t, w, now, alive)
	signal(t, parent.Process.Pid, unix.SIGSTOP)
	until(t, parent.Process.Pid, func(p view.Process) bool { return p.Stopped() })
	see(t, w, now, stopped, "stopped")
	signal(t, parent.Process.Pid, unix.SIGKILL)
	until(t, parent.Process.Pid, func(p view.Process) bool { return p.Ended() })
	// For a moment, a parent that replaces its program looks the same.
	see(t, w, now, alive)
	see(t, w, now.Add(blinkTime), dead, "dead")
	parent.Wait()
	w = watch(t, dir)
	see(t, w, now, dead)
	if len(w.shown.children) != 1 || w.running() {
		t.Errorf("of a dead daemon its board is shown, but %d children are; running: %v", len(w.shown.children), w.running())
	}
}

// A number of another process, or of another boot, is no parent.
func TestOthersNumber(t *testing.T) {
	for name, change := range map[string]func(*pidfile.Identity){
		"start": func(id *pidfile.Identity) { id.Start++ },
		"boot":  func(id *pidfile.Identity) { id.BootID = "00000000-0000-0000-0000-000000000000" },
		"none":  func(id *pidfile.Identity) { id.PID = 0 },
	} {
		id, dir := self(t), t.TempDir()
		change(&id)
		newFake(t, dir, id)
		w := watch(t, dir)
		if w.look(time.Now(), 1); w.condition != dead {
			t.Errorf("%s: %s", name, w.condition)
		}
	}
}

// A parent that does not notice that a child has ended does not do its work.
func TestHangs(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	f.child(0, os.Getpid(), 1)
	f.child(1, ended(t), 1)
	w, now := watch(t, dir), time.Now()
	see(t, w, now, alive)
	see(t, w, now.Add(hangTime-time.Second), alive)
	see(t, w, now.Add(hangTime), hangs, "slot 1")
	if !w.shown.children[1].value.Ended || w.shown.children[0].value.Ended {
		t.Errorf("who has ended is shown wrong: %+v", w.shown.children)
	}
	f.must(f.board.Free(1))
	see(t, w, now.Add(2*hangTime), alive)
}

// Another parent in the same directory begins anew: its counters and events are its own.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	f.status(scoreboard.Status{State: "serving", Generation: 9, Want: 2, Done: 100, Born: 50})
	for range 20 {
		f.must(f.board.Record(scoreboard.Event{Kind: scoreboard.EventNote, Slot: -1, Text: "old"}))
	}
	w := watch(t, dir)
	see(t, w, time.Now(), alive)
	if w.counters.done != 100 || w.last() != 20 {
		t.Fatalf("%+v, last event %d", w.counters, w.last())
	}
	g := newFake(t, dir, self(t)) // in the very same process, even
	g.status(scoreboard.Status{State: "serving", Generation: 1, Want: 2, Done: 3})
	g.must(g.board.Record(scoreboard.Event{Kind: scoreboard.EventStart, Slot: -1, Text: "new"}))
	see(t, w, time.Now(), alive)
	if w.counters.done != 3 || w.counters.born != 0 || w.last() != 1 || w.events[0].Text != "new" {
		t.Errorf("%+v, events %v", w.counters, w.events)
	}
}

// When a child ends, its slot is cleared first, and then what it has done is added to the daemon's.
func TestCountersOnlyGrow(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	f.status(scoreboard.Status{State: "serving", Want: 2, Done: 10, Skipped: 1, Refused: 3})
	c := f.child(2, os.Getpid(), 1)
	c.SetWork(scoreboard.Work{State: scoreboard.Idle, Done: 5})
	c.Skip()
	c.Refuse()
	w := watch(t, dir)
	want := func(done, skipped, refused uint64) {
		t.Helper()
		w.look(time.Now(), 1)
		if c := w.counters; c.done != done || c.skipped != skipped || c.refused != refused {
			t.Errorf("%d done, %d skipped, %d refused; want %d, %d, %d", c.done, c.skipped, c.refused, done, skipped, refused)
		}
	}
	want(15, 2, 4)
	f.must(f.board.Free(2))
	want(15, 2, 4)
	f.status(scoreboard.Status{State: "serving", Want: 2, Done: 15, Skipped: 2, Refused: 4})
	want(15, 2, 4)
	f.status(scoreboard.Status{State: "serving", Want: 2, Done: 16, Skipped: 2, Refused: 4})
	want(16, 2, 4)
}

func TestServes(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	w := watch(t, dir)
	for state, ok := range map[string]bool{"starting": false, "serving": true, "reloading": true, "upgrading": true, "draining": false, "drained": false, "stopping": false, "degraded": false, "\x1b": false} {
		f.status(scoreboard.Status{State: state, Want: 2, Trouble: "does not come up\nmore"})
		w.look(time.Now(), 1)
		if why := w.serves(); (why == "") != ok || strings.ContainsAny(why, "\x1b\n") {
			t.Errorf("%s: %q", state, why)
		}
	}
	f.status(scoreboard.Status{State: "degraded", Want: 2})
	f.child(0, os.Getpid(), 1)
	if w.look(time.Now(), 1); w.serves() != "" {
		t.Errorf("degraded, but a child serves: %s", w.serves())
	}
}
