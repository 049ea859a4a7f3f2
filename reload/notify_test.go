package reload

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// round is one look's worth of wishes.
func round(n *notifier, now time.Time, dirs ...string) []string {
	n.begin()
	for _, dir := range dirs {
		n.tree(dir, dir, now)
	}
	n.end()
	list := n.fs.WatchList()
	slices.Sort(list)
	return list
}

// Only what a round wants stays watched, and a directory that took another's place is known to be new.
func TestRounds(t *testing.T) {
	t.Parallel()
	n := newNotifier(linux, slog.New(slog.DiscardHandler))
	defer n.stop()
	top := t.TempDir()
	a, b := mkdir(t, top, "a"), mkdir(t, top, "b/b")
	if got := round(n, at(0), a, b); !slices.Equal(got, []string{a, b}) {
		t.Errorf("watched: %v", got)
	}
	if got := round(n, at(1000), b); !slices.Equal(got, []string{b}) {
		t.Errorf("watched without a: %v", got)
	}
	if !n.vouches(b, at(1000), time.Second) || n.vouches(a, at(1000), 0) {
		t.Error("b was watched for a second, a is not")
	}
	// The directory above is renamed, which tells nobody.
	try(t, os.Rename(filepath.Join(top, "b"), filepath.Join(top, "c")))
	mkdir(t, b)
	round(n, at(2000), b)
	if n.vouches(b, at(2000), time.Second) || !n.vouches(b, at(3000), time.Second) {
		t.Error("the new b is watched since 2 s only")
	}
	if n.lost || n.short {
		t.Errorf("lost %v, short %v", n.lost, n.short)
	}
	round(n, at(3000), filepath.Join(top, "none"))
	if !n.lost || n.short {
		t.Errorf("missing directory: lost %v, short %v", n.lost, n.short)
	}
	n.unsure(b)
	if n.vouches(b, at(9000), 0) {
		t.Error("a directory that moved is vouched for")
	}
}

// A directory that moved leaves a time in which events were lost: the quiet after it proves nothing.
func TestDoubt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := write(t, filepath.Join(dir, "f"), "1")
	for _, ev := range []fsnotify.Event{{Name: f, Op: fsnotify.Write}, {Name: filepath.Join(dir, "sub"), Op: fsnotify.Rename}} {
		j := testJudge(t)
		j.plan.dirs, j.plan.poll = []string{dir}, -1
		j.plan.settle, j.plan.maxSettle = time.Nanosecond, time.Hour
		l := loop{ctx: t.Context(), plan: j.plan, note: j.note, judge: *j, out: make(chan Change, 1)}
		l.settle = settle{quiet: time.Nanosecond, max: time.Hour}
		round(l.note, epoch, dir, mkdir(t, dir, "sub"))
		l.event(ev, true)
		l.tick(time.Now().Add(time.Millisecond))
		if got, want := len(l.out), 1; (got == want) == ev.Has(fsnotify.Rename) {
			t.Errorf("after %v: %d reports", ev, got)
		}
		l.tick(time.Now().Add(time.Minute))
		if len(l.out) != 1 {
			t.Errorf("after %v and another look: no report", ev)
		}
		l.note.stop()
	}
}

// Whoever takes the watcher's lock must not be the one who reads its errors, of which some are sent under that lock.
func TestPump(t *testing.T) {
	t.Parallel()
	from, to := make(chan error), make(chan error, 1)
	done := make(chan struct{})
	go func() { pump(from, to); close(done) }()
	for range 3 { // nobody reads
		select {
		case from <- errors.New("x"):
		case <-time.After(deadline):
			t.Fatal("an error has to wait")
		}
	}
	close(from)
	<-done
	if len(to) != 1 {
		t.Errorf("%d errors", len(to))
	}
}
