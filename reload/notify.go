package reload

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// kernel is what the watcher asks of the system, so that a test can refuse it.
type kernel struct {
	notify  func() (*fsnotify.Watcher, error)
	add     func(w *fsnotify.Watcher, dir string) error
	writers func(path string) writing
	alarm   func() *alarm // nil: Go timers do for long waits, too
}

var linux = kernel{
	notify:  fsnotify.NewWatcher,
	add:     (*fsnotify.Watcher).Add,
	writers: leaseProbe,
}

// notifier keeps the kernel's watches in step with the directories that a look wants. It belongs to one goroutine.
//
// All directories are real paths: inotify knows an inode by one watch, and fsnotify names all its events after
// the path by which it was first added.
type notifier struct {
	kernel kernel
	log    *slog.Logger
	fs     *fsnotify.Watcher // nil while inotify cannot be had
	errs   chan error        // of fs; see pump
	dirs   map[string]*watched
	warned map[string]bool

	short bool // a directory of the current round could not be watched: polling has to do its work
	lost  bool // one was missing: try again soon
}

// watched is one directory with a watch on it.
type watched struct {
	dev, ino uint64
	since    time.Time       // events from it are complete since then
	shown    string          // in a tree: its path as the Set spelled it
	tree     bool            // all names in it matter
	names    map[string]bool // these names in it matter
}

func newNotifier(k kernel, log *slog.Logger) *notifier {
	return &notifier{kernel: k, log: log, dirs: make(map[string]*watched), warned: make(map[string]bool)}
}

// begin starts a round: what is not wanted by its end is no longer watched. It first drops the watches on
// directories that are no longer at their path, because fsnotify would go on naming events after it.
func (n *notifier) begin() {
	n.short, n.lost = false, false
	if n.fs == nil {
		n.start()
	}
	for dir, w := range n.dirs {
		w.tree, w.names = false, nil
		if st, err := lstamp(dir); err != nil || st.dev != w.dev || st.ino != w.ino {
			n.drop(dir)
		}
	}
}

func (n *notifier) start() {
	fs, err := n.kernel.notify()
	if err != nil {
		n.fail("", err)
		return
	}
	n.fs, n.errs = fs, make(chan error, 1)
	go pump(fs.Errors, n.errs)
}

// pump takes every error at once. fsnotify 1.10.1 sends one while it holds the lock that Add, Remove and Close need
// (EINVAL for IN_MOVE_SELF of a directory that is already gone), so a goroutine that calls those and also reads the
// errors waits for ever; seen. One error is as good as many.
func pump(from <-chan error, to chan<- error) {
	for err := range from {
		select {
		case to <- err:
		default:
		}
	}
}

// name wants events for one name in a directory.
func (n *notifier) name(h hint, now time.Time) {
	if w := n.add(h.dir, now); w != nil {
		if w.names == nil {
			w.names = make(map[string]bool)
		}
		w.names[h.name] = true
	}
}

// tree wants events for all names in a directory.
func (n *notifier) tree(dir, shown string, now time.Time) {
	if w := n.add(dir, now); w != nil {
		w.tree, w.shown = true, shown
	}
}

// add asks the kernel in every round anew, which it answers at once for a watch that is on: a directory may have been
// removed and made again with the same inode number, and then only the kernel knows that the watch is gone.
func (n *notifier) add(dir string, now time.Time) *watched {
	if n.fs == nil {
		n.short = true
		return nil
	}
	st, err := lstamp(dir)
	if err != nil || !st.dir() {
		n.lost = true
		return nil
	}
	if err := n.kernel.add(n.fs, dir); err != nil {
		delete(n.dirs, dir)
		n.fail(dir, err)
		return nil
	}
	w := n.dirs[dir]
	if w == nil {
		w = &watched{dev: st.dev, ino: st.ino, since: now}
		n.dirs[dir] = w
	}
	return w
}

// end drops the watches that nobody wanted in this round.
func (n *notifier) end() {
	for dir, w := range n.dirs {
		if !w.tree && w.names == nil {
			n.drop(dir)
		}
	}
}

func (n *notifier) drop(dir string) {
	delete(n.dirs, dir)
	if n.fs != nil {
		// The only errors are that there was no such watch: the kernel drops that of a removed directory.
		_ = n.fs.Remove(dir)
	}
}

// fail notes that inotify does not serve dir, or nothing at all, and says once for each reason what would help.
func (n *notifier) fail(dir string, err error) {
	const fallback = "reload: inotify cannot watch everything; polling instead"
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		n.lost = true
	case errors.Is(err, unix.ENOSPC):
		n.short = true
		n.warn(fallback, "sysctl", "fs.inotify.max_user_watches", "dir", dir, "err", err)
	case errors.Is(err, unix.EMFILE):
		n.short = true
		n.warn(fallback, "sysctl", "fs.inotify.max_user_instances", "err", err)
	default:
		n.short = true
		n.warn(fallback, "dir", dir, "err", err)
	}
}

// failed tells of an error that came instead of an event.
func (n *notifier) failed(err error) {
	switch {
	case errors.Is(err, fsnotify.ErrEventOverflow):
		n.warn("reload: inotify lost events; comparing all files", "sysctl", "fs.inotify.max_queued_events", "err", err)
	case errors.Is(err, unix.EINVAL):
		// A directory moved and was removed before fsnotify could drop its watch: nothing to tell.
	default:
		n.warn("reload: inotify failed; comparing all files", "err", err)
	}
}

// warn says the same thing only once: the watcher goes on trying, and the log may lie in a watched tree.
func (n *notifier) warn(text string, args ...any) {
	key := text
	if len(args) > 1 && args[0] == "sysctl" {
		key += args[1].(string)
	}
	if !n.warned[key] {
		n.warned[key] = true
		n.log.Warn(text, args...)
	}
}

// wants says whether an event may concern us. In doubt it does.
func (n *notifier) wants(p *plan, ev fsnotify.Event) bool {
	if n.dirs[ev.Name] != nil {
		return true // the directory itself was moved, removed or changed
	}
	dir, name := filepath.Split(ev.Name)
	w := n.dirs[filepath.Clean(dir)]
	switch {
	case w == nil:
		return true
	case w.names[name]:
		return true
	case w.tree:
		return !p.ignored(filepath.Join(w.shown, name), ev.Name)
	}
	return false
}

// grow has a new directory watched with all below it, at once rather than at the next look: what happens in it until
// then has to be heard, or that look would come too early.
func (n *notifier) grow(p *plan, dir string, now time.Time) {
	if w := n.dirs[filepath.Dir(dir)]; w != nil && w.tree {
		n.walk(p, dir, filepath.Join(w.shown, filepath.Base(dir)), now)
	}
}

func (n *notifier) walk(p *plan, dir, shown string, now time.Time) {
	if st, err := lstamp(dir); err != nil || !st.dir() || p.ignored(shown, dir) {
		return
	}
	n.tree(dir, shown, now)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			n.walk(p, filepath.Join(dir, e.Name()), filepath.Join(shown, e.Name()), now)
		}
	}
}

// vouches says whether every event from dir was delivered for at least d.
func (n *notifier) vouches(dir string, now time.Time, d time.Duration) bool {
	w := n.dirs[dir]
	return w != nil && now.Sub(w.since) >= d
}

// unsure notes that a path was moved or removed, and says whether it was a watched directory. Its watch is gone then
// even if it comes back; and under its new name, if it was added quickly, fsnotify drops the watch once more when
// it reads IN_MOVE_SELF.
func (n *notifier) unsure(path string) bool {
	known := n.dirs[path] != nil
	delete(n.dirs, path)
	return known
}

func (n *notifier) events() <-chan fsnotify.Event {
	if n.fs == nil {
		return nil
	}
	return n.fs.Events
}

// stop gives inotify back; the next round tries to have it again.
func (n *notifier) stop() {
	if n.fs != nil {
		_ = n.fs.Close()
	}
	n.fs, n.errs = nil, nil
	clear(n.dirs)
}
