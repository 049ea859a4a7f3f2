package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// 5000 events over a second and more are one report. B32
func TestStorm(t *testing.T) {
	t.Parallel()
	patiently(t, func(pace *pace) error {
		dir := t.TempDir()
		p := watch(t, Set{Dirs: []string{dir}, Settle: 2 * quick, MaxSettle: time.Hour})
		before := time.Now()
		const dirs, files = 25, 100
		for i := range dirs {
			sub := mkdir(t, dir, fmt.Sprint("d", i/5), fmt.Sprint(i))
			for j := range files {
				write(t, filepath.Join(sub, fmt.Sprint(j)), "x") // two events each
				pace.beat()
			}
			time.Sleep(40 * time.Millisecond)
		}
		took := time.Since(before)
		c := p.next()
		if d := c.At.Sub(before); d < took {
			return fmt.Errorf("reported after %v, in the middle of the storm of %v", d, took)
		}
		if len(c.Paths) != maxPaths || len(c.Paths)+c.More != dirs*files || !slices.IsSorted(c.Paths) {
			t.Errorf("reported %d paths and %d more", len(c.Paths), c.More)
		}
		p.silent()
		return nil
	})
}

// A branch is checked out, and another one and back. B32
func TestGitCheckout(t *testing.T) {
	t.Parallel()
	for _, files := range []int{500, 5000} {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			git := func(argv ...string) {
				t.Helper()
				run(t, dir, append([]string{"git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "gc.auto=0"}, argv...)...)
			}
			git("init", "-q", "-b", "main")
			fill := func(text string) {
				for i := range files {
					write(t, filepath.Join(mkdir(t, dir, fmt.Sprint(i%10)), fmt.Sprint("f", i)), text)
				}
				git("add", ".")
				git("commit", "-q", "-m", text)
			}
			fill("one")
			git("checkout", "-q", "-b", "other")
			fill("two")
			p := watch(t, Set{Dirs: []string{dir}, Settle: 2 * quick})
			git("checkout", "-q", "main")
			if c := p.next(); len(c.Paths)+c.More != files {
				t.Errorf("reported %d paths and %d more", len(c.Paths), c.More)
			}
			p.silent()
			before := time.Now()
			git("checkout", "-q", "other")
			git("checkout", "-q", "main")
			if took := time.Since(before); took > quick {
				t.Skipf("there and back took %v, which may rightly be two changes", took)
			}
			for range 2 { // Settle is twice as long here
				p.silent() // there and back is no change: B36
			}
		})
	}
}

// Noise beside the program neither delays nor causes reports.
func TestNoisyNeighbour(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := writeMode(t, filepath.Join(dir, "app"), "1", 0o755)
	p := watch(t, Set{Files: []string{app}, MaxSettle: time.Hour})
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-stopped }()
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(quick / 20):
				os.WriteFile(filepath.Join(dir, "log"), fmt.Append(nil, i), 0o644)
			}
		}
	}()
	p.silent()
	replace(t, app, "2")
	p.once(app)
}

// In a tree where one file grows for ever, the others are reported after MaxSettle, and the growing one never.
func TestMaxSettle(t *testing.T) {
	t.Parallel()
	patiently(t, func(pace *pace) error {
		dir := t.TempDir()
		f := write(t, filepath.Join(dir, "f"), "1")
		c := begin(t, filepath.Join(dir, "grows"), 0o644)
		c.p = pace
		defer c.f.Close()
		p := watch(t, Set{Dirs: []string{dir}, MaxSettle: 4 * quick})
		write(t, f, "two")
		for end := time.Now().Add(deadline); len(p.w.out) == 0 && time.Now().Before(end); {
			c.steadily(quick)
		}
		pace.beat()
		if change := p.next(); len(change.Paths) != 1 || change.Paths[0] != f {
			return fmt.Errorf("reported %v, want %v", change.Paths, f)
		}
		c.steadily(5 * quick)
		pace.beat()
		if len(p.w.out) != 0 {
			return errors.New("reported the file that grows")
		}
		p.once(c.f.Name())
		return nil
	})
}

// A reader that is slow misses nothing.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := watch(t, Dirs(dir))
	missing := make(map[string]bool)
	for _, name := range []string{"b", "a", "c"} {
		missing[write(t, filepath.Join(dir, name), "1")] = true
		time.Sleep(2 * quick) // usually a report of its own, which is joined to the others
	}
	for len(missing) > 0 {
		for _, path := range p.next().Paths {
			if !missing[path] {
				t.Errorf("%s again", path)
			}
			delete(missing, path)
		}
	}
	p.silent()
}

// While nobody receives, a report is joined to the one that waits.
func TestReportJoins(t *testing.T) {
	t.Parallel()
	l := loop{out: make(chan Change, 1), judge: judge{known: map[string]entry{}}}
	c := comparison{changed: map[string]entry{}}
	l.report(c, epoch)
	if len(l.out) != 0 {
		t.Fatal("a report of nothing")
	}
	for round := range 3 {
		clear(c.changed)
		for i := range 15 {
			c.changed[fmt.Sprintf("/%d/%02d", round, i)] = entry{}
		}
		l.report(c, epoch.Add(time.Duration(round)))
	}
	got := <-l.out
	if len(got.Paths) != maxPaths || got.More != 45-maxPaths || got.Paths[0] != "/0/00" || !got.At.Equal(epoch.Add(2)) {
		t.Errorf("got %+v", got)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := watch(t, Dirs(dir))
	write(t, filepath.Join(dir, "f"), "1")
	for deadline := time.Now().Add(deadline); len(p.w.out) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no report")
		}
	}
	done := make(chan struct{})
	for range 3 {
		go func() { p.w.Close(); done <- struct{}{} }()
	}
	for range 3 {
		<-done
	}
	if c, ok := <-p.w.Changes(); !ok || len(c.Paths) != 1 {
		t.Error("the last report is lost")
	}
	if _, ok := <-p.w.Changes(); ok {
		t.Error("Changes is open after Close")
	}
	try(t, p.w.Close())
}

// Directories that move and vanish at once make fsnotify report errors while it holds its lock; the watcher must not
// hang on that lock.
func TestVanishingDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	leave := mkdir(t, dir, "leave")
	for i := range 1000 {
		mkdir(t, leave, fmt.Sprint(i))
	}
	f := write(t, filepath.Join(dir, "f"), "1")
	var log diary
	p := watch(t, Set{Dirs: []string{dir}, Logger: log.logger()})
	for i := range 1000 {
		moved := filepath.Join(dir, fmt.Sprint(i))
		try(t, os.Rename(filepath.Join(leave, fmt.Sprint(i)), moved))
		try(t, os.Remove(moved))
		mkdir(t, moved) // to be watched at the moment when fsnotify finds that the one that moved is gone
	}
	write(t, f, "two")
	p.once(f)
	if all, _ := log.lines(""); all != 0 {
		t.Errorf("log: %s", log.String())
	}
}

// A look that Close interrupts has not seen everything and must not call the rest removed.
func TestInterruptedLook(t *testing.T) {
	t.Parallel()
	j := testJudge(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j.plan.dirs, j.plan.poll = []string{t.TempDir()}, -1
	j.known[filepath.Join(j.plan.dirs[0], "f")] = entry{}
	l := loop{ctx: ctx, plan: j.plan, note: j.note, judge: *j, out: make(chan Change, 1)}
	defer l.note.stop()
	l.look(time.Now(), true)
	if len(l.out) != 0 {
		t.Errorf("reported %v", <-l.out)
	}
}

// If inotify ends, all is looked at and it is started anew.
func TestInotifyEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := linux
	started := make(chan *fsnotify.Watcher, 8)
	k.notify = func() (*fsnotify.Watcher, error) {
		w, err := fsnotify.NewWatcher()
		started <- w
		return w, err
	}
	p := watchOn(t, Dirs(dir), k)
	try(t, (<-started).Close())
	f := write(t, filepath.Join(dir, "f"), "1")
	p.once(f)
	<-started
	p.settled(f, "2")
}
