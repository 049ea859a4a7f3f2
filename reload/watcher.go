package reload

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxPaths is how many paths a Change names.
const maxPaths = 20

// retryLost is how soon to look again for a file or directory that is missing.
const retryLost = time.Second

// Change says that watched files differ from what was last reported, or from what they were when watching
// started, and are at rest.
type Change struct {
	// Paths are the files that differ, sorted, as absolute paths below what the Set named (links not resolved).
	// At most 20. Never empty. A file that went from a tree is among them.
	Paths []string

	// More is how many differ besides Paths. When several changes were joined because nobody received, the same
	// file may be counted more than once.
	More int

	// At is when the files were found at rest.
	At time.Time
}

// Watcher watches one Set. Open makes one, Close ends it. Its methods may be called from several goroutines.
type Watcher struct {
	out    chan Change
	cancel context.CancelFunc
	done   chan struct{}
}

// Open starts watching a Set and returns when all of it is being watched: a change after that is reported.
// Whatever a file contains at this moment is taken as known, except for Self, which see.
//
// Errors: a path that does not exist, or is not what its field asks for; a malformed pattern; a negative
// duration. Failing to get inotify is no error but a warning in the Logger; the files are polled then. Open takes as long as
// walking the trees and hashing up to 128 MiB of them, and all of Files. One goroutine works until Close
// (and a small one inside fsnotify, and one that reads its errors).
func Open(s Set) (*Watcher, error) {
	k := linux
	k.alarm = newAlarm
	return open(s, k)
}

func open(s Set, k kernel) (*Watcher, error) {
	p, err := s.plan()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{out: make(chan Change, 1), cancel: cancel, done: make(chan struct{})}
	note := newNotifier(k, p.log)
	l := &loop{
		ctx: ctx, plan: p, note: note, out: w.out,
		settle: settle{quiet: p.settle, max: p.maxSettle},
		judge: judge{
			ctx: ctx, plan: p, note: note, writers: k.writers,
			known: make(map[string]entry), prior: make(map[string]entry),
		},
	}
	now := time.Now()
	if l.judge.learn(scan(ctx, p, note, now)) {
		l.settle.event(now)
	}
	l.planPoll(time.Now())
	go func() {
		defer close(w.done)
		defer close(w.out)
		l.run()
	}()
	return w, nil
}

// Changes returns the channel that delivers changes; it is always the same one. It holds one Change. While nobody
// receives, further ones are joined to it, so a slow reader gets fewer reports but never misses that something changed.
// Close closes it, after which one last Change may still be received.
func (w *Watcher) Changes() <-chan Change { return w.out }

// Close stops watching and waits until the watcher's goroutine has ended and Changes is closed. It may be called
// more than once and always returns nil.
func (w *Watcher) Close() error {
	w.cancel()
	<-w.done
	return nil
}

// loop is the goroutine of a Watcher. It alone touches what it holds.
type loop struct {
	ctx    context.Context
	plan   *plan
	note   *notifier
	judge  judge
	settle settle
	out    chan Change
	pollAt time.Time // when to look without an event; zero means never
	doubt  bool      // events may have been missed since the last look, so that quiet proves nothing
	late   bool      // the last look was overdue and confirmed nothing
	told   bool      // that a file is still open for writing
}

// longWait is the least wait that is left to an alarm.
const longWait = time.Second

func (l *loop) run() {
	defer l.note.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var long *alarm
	if l.note.kernel.alarm != nil {
		long = l.note.kernel.alarm()
		defer long.close()
	}
	for {
		timer.Stop()
		if wait := l.wait(time.Now()); wait < longWait || !long.set(wait) {
			timer.Reset(wait)
		}
		select {
		case <-l.ctx.Done():
			return
		case ev, ok := <-l.note.events():
			l.event(ev, ok)
		case err := <-l.note.errs:
			l.failed(err)
		case <-timer.C:
			l.drain()
			l.tick(time.Now())
		case <-long.fired():
			l.drain()
			l.tick(time.Now())
		}
	}
}

// drain takes the events that are already there, because select picks at random: a timer that fires late must not
// pass for a quiet time.
func (l *loop) drain() {
	for {
		select {
		case ev, ok := <-l.note.events():
			l.event(ev, ok)
		case err := <-l.note.errs:
			l.failed(err)
		default:
			return
		}
	}
}

// wait is how long to wait if nothing comes.
func (l *loop) wait(now time.Time) time.Duration {
	_, wait := l.settle.due(now)
	if !l.settle.dirty() && !l.pollAt.IsZero() {
		wait = max(0, l.pollAt.Sub(now))
	}
	return wait
}

// tick looks if it is time to.
func (l *loop) tick(now time.Time) {
	if due, _ := l.settle.due(now); due {
		l.look(now, l.settle.calm(now) && !l.doubt)
		return
	}
	if !l.settle.dirty() && !l.pollAt.IsZero() && !now.Before(l.pollAt) {
		l.look(now, false)
	}
}

func (l *loop) event(ev fsnotify.Event, ok bool) {
	now := time.Now()
	if !ok {
		l.note.stop()
		l.settle.event(now)
		l.doubt = true
		return
	}
	if !l.note.wants(l.plan, ev) {
		return
	}
	l.settle.event(now)
	if (ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename)) && l.note.unsure(ev.Name) {
		l.doubt = true
	}
	if ev.Has(fsnotify.Create) {
		l.note.grow(l.plan, ev.Name, now)
	}
}

func (l *loop) failed(err error) {
	l.note.failed(err)
	l.settle.event(time.Now())
	l.doubt = true
}

// look compares everything with what is known, and reports what is different and at rest.
func (l *loop) look(now time.Time, calm bool) {
	snap := scan(l.ctx, l.plan, l.note, now)
	c := l.judge.compare(snap, now, calm)
	if l.ctx.Err() != nil {
		return // stopped half-way: the comparison is not to be trusted
	}
	l.doubt = false   // this look had every directory watched again
	end := time.Now() // hashing may have taken long
	l.planPoll(end)
	if len(c.moving) == 0 {
		l.report(c, end)
		l.settle.done()
		l.late, l.told = false, false
		return
	}
	if first := !l.late; !l.settle.overdue(now) || first && len(c.changed) == 0 {
		// Once overdue, one more look: it confirms which files are at rest and need not wait for the others.
		l.late = l.settle.overdue(now)
		l.judge.hold(c)
		l.settle.hold(end)
		return
	}
	l.late = false
	if c.written != "" && !l.told {
		l.told = true
		l.plan.log.Warn("reload: changed file is still open for writing; waiting", "path", c.written)
	}
	l.report(c, end)
	l.settle.release(end)
	l.settle.hold(end)
}

// planPoll sets when to look next if no event comes. What inotify does not cover is polled whether or not the Set
// wants a poll, or it would be watched by nobody.
func (l *loop) planPoll(now time.Time) {
	every := l.plan.poll
	if every < 0 && l.note.short {
		every = defaultPoll
	}
	if l.note.lost && (every < 0 || every > retryLost) {
		every = retryLost
	}
	l.pollAt = time.Time{}
	if every > 0 {
		l.pollAt = now.Add(every)
	}
}

// report delivers what changed, if anything did. Only this goroutine sends, so there is room once the old Change is
// taken out, by us or by the reader.
func (l *loop) report(c comparison, now time.Time) {
	paths := l.judge.accept(c)
	if len(paths) == 0 {
		return
	}
	change := newChange(paths, 0, now)
	select {
	case old := <-l.out:
		change = newChange(union(old.Paths, paths), old.More, now)
	default:
	}
	l.out <- change
}

// newChange names as many of the sorted paths as a Change may.
func newChange(paths []string, more int, now time.Time) Change {
	n := min(len(paths), maxPaths)
	return Change{Paths: paths[:n:n], More: more + len(paths) - n, At: now}
}

func union(a, b []string) []string {
	all := make(map[string]bool, len(a)+len(b))
	for _, p := range slices.Concat(a, b) {
		all[p] = true
	}
	return slices.Sorted(maps.Keys(all))
}
