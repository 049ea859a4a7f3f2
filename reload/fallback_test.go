package reload

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// Without inotify the poll does the work alone, and one warning says which sysctl would help. The bubble has a clock of
// its own, so that the default durations can be used. B34
func TestNoInotify(t *testing.T) {
	for errno, sysctl := range map[error]string{
		unix.EMFILE: "fs.inotify.max_user_instances",
		unix.ENOSYS: "function not implemented",
	} {
		for _, poll := range []time.Duration{0, -1, time.Minute} {
			t.Run(fmt.Sprint(errno, poll), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					testNoInotify(t, errno, sysctl, poll)
				})
			})
		}
	}
}

func testNoInotify(t *testing.T, errno error, sysctl string, poll time.Duration) {
	k := linux
	k.notify = func() (*fsnotify.Watcher, error) { return nil, fmt.Errorf("no inotify: %w", errno) }
	dir := t.TempDir()
	app := writeMode(t, filepath.Join(dir, "app"), "1", 0o755)
	f := write(t, filepath.Join(mkdir(t, dir, "tree"), "f"), "1")
	var log diary
	w, err := open(Set{Files: []string{app}, Dirs: []string{filepath.Dir(f)}, Poll: poll, Logger: log.logger()}, k)
	try(t, err)
	defer w.Close()
	every := poll
	if poll <= 0 {
		every = defaultPoll // a Set that would be blind is polled whether it wants to or not
	}
	report := func(within time.Duration, want ...string) {
		t.Helper()
		begin := time.Now()
		select {
		case c := <-w.Changes():
			if fmt.Sprint(c.Paths) != fmt.Sprint(want) {
				t.Fatalf("reported %v, want %v", c.Paths, want)
			}
		case <-time.After(within + time.Millisecond):
			t.Fatalf("no report within %v", within)
		}
		t.Logf("%v after %v", want, time.Since(begin))
	}
	quiet := func() {
		t.Helper()
		select {
		case c := <-w.Changes():
			t.Fatalf("unexpected report %v", c.Paths)
		case <-time.After(10*every + every/2): // not at the very moment of a poll
		}
	}
	quiet()
	replace(t, app, "22")
	// A poll sees it; the look after Settle confirms that it is at rest.
	report(every+defaultSettle, app)
	quiet()
	write(t, f, "22")
	report(every+defaultSettle, f)
	try(t, os.Chtimes(f, epoch, epoch))
	quiet() // B36
	sub := write(t, filepath.Join(mkdir(t, dir, "tree/sub"), "g"), "1")
	try(t, os.Remove(f))
	report(every+defaultSettle, f, sub)
	quiet()
	// A missing program is looked for each second.
	try(t, os.Remove(app))
	quiet()
	writeMode(t, app, "333", 0o755)
	report(min(every, retryLost)+defaultSettle, app)
	quiet()
	log.only(t, sysctl)
}

// When the watches run out, the rest is polled. When there is room again, events do the work again. B34
func TestWatchesRunOut(t *testing.T) {
	t.Parallel()
	for _, sub := range []string{"", "deep"} {
		t.Run(sub, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := write(t, filepath.Join(mkdir(t, dir, sub), "f"), "1")
			var full atomic.Bool
			full.Store(true)
			k := linux
			k.add = func(w *fsnotify.Watcher, d string) error {
				if full.Load() && filepath.Base(d) == filepath.Base(filepath.Dir(f)) {
					return unix.ENOSPC
				}
				return w.Add(d)
			}
			var log diary
			p := watchOn(t, Set{Dirs: []string{dir}, Poll: quick, Logger: log.logger()}, k)
			p.settled(f, "2")
			p.settled(f, "3")
			log.only(t, "fs.inotify.max_user_watches")
			full.Store(false)
			p.settled(f, "4")
			log.only(t, "fs.inotify.max_user_watches")
		})
	}
}

// The kernel's own limit of inotify instances, as a daemon meets it. B34
func TestInstancesRunOut(t *testing.T) {
	// Not parallel: it takes what the other tests need.
	var taken []int
	defer func() {
		for _, fd := range taken {
			unix.Close(fd)
		}
	}()
	for len(taken) < 2000 {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	if len(taken) == 2000 {
		t.Skip("no limit in reach")
	}
	f := write(t, filepath.Join(t.TempDir(), "f"), "1")
	var log diary
	p := watch(t, Set{Files: []string{f}, Poll: quick, Logger: log.logger()})
	p.settled(f, "2")
	log.only(t, "fs.inotify.max_user_instances")
	for _, fd := range taken {
		unix.Close(fd)
	}
	taken = nil
	p.settled(f, "3")
}

// The kernel's queue overflows while a look takes long: nothing is lost, also not in directories whose creation went
// unheard. B34
func TestOverflow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := writeMode(t, filepath.Join(t.TempDir(), "app"), "1", 0o755)
	looking, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	k := linux
	k.writers = func(path string) writing {
		if !once.Swap(true) {
			close(looking)
			<-goOn
		}
		return leaseProbe(path)
	}
	var log diary
	p := watchOn(t, Set{Dirs: []string{dir}, Files: []string{app}, Logger: log.logger()}, k)
	replace(t, app, "2")
	<-looking
	noise := filepath.Join(dir, "noise")
	for range 20000 { // three events each; max_queued_events is 16384
		write(t, noise, "x")
		try(t, os.Remove(noise))
	}
	unheard := write(t, filepath.Join(mkdir(t, dir, "a/b"), "unheard"), "1")
	close(goOn)
	seen := make(map[string]bool)
	for !seen[app] || !seen[unheard] {
		for _, path := range p.next().Paths {
			if seen[path] || path == noise {
				t.Errorf("reported %s", path)
			}
			seen[path] = true
		}
	}
	p.silent()
	if _, n := log.lines("fs.inotify.max_queued_events"); n == 0 {
		t.Skip("the queue is too long to overflow here")
	}
	log.only(t, "fs.inotify.max_queued_events")
	write(t, unheard, "2")
	p.once(unheard)
}

// An error from inotify means that anything may have happened. B34
func TestErrorMeansLook(t *testing.T) {
	t.Parallel()
	f := write(t, filepath.Join(t.TempDir(), "f"), "1")
	k := deafKernel()
	var fs *fsnotify.Watcher
	k.notify = func() (w *fsnotify.Watcher, err error) {
		fs, err = fsnotify.NewWatcher()
		return fs, err
	}
	var log diary
	p := watchOn(t, Set{Files: []string{f}, Logger: log.logger()}, k)
	for _, content := range []string{"2", "3"} {
		replace(t, f, content)
		p.silent()
		for range 10 {
			fs.Errors <- fsnotify.ErrEventOverflow
		}
		p.once(f)
	}
	log.only(t, "fs.inotify.max_queued_events")
}
