package web

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/scoreboard"
)

// A condition is what can be said of a daemon from outside.
type condition string

const (
	alive      condition = "alive"
	stopped    condition = "stopped"    // the parent is, by a signal
	hangs      condition = "hangs"      // the parent does not do what it has to
	dead       condition = "dead"       // the parent is, and the board has stayed
	absent     condition = "absent"     // there is no board
	unreadable condition = "unreadable" // the board is damaged, or may not be read
)

const (
	// blinkTime is how long a parent may look like a zombie: it does while it replaces its program.
	blinkTime = time.Second
	// hangTime is how long a parent may take to notice that a child has ended. It needs milliseconds.
	hangTime = 5 * time.Second
	// processesEvery is how often the children's processes are looked at.
	processesEvery = 2 * time.Second
)

// A watcher knows one daemon. Its server's lock guards it.
type watcher struct {
	name string
	path string // of the board
	boot string // this machine's, since its last start

	life      string // which life of the daemon it is: one of a parent, its upgrades included
	board     *scoreboard.Snapshot
	condition condition
	problem   string // in words, unless it is alive
	why       error  // that there is no board, or that it is unreadable
	blink     time.Time
	counters  counters
	resident  uint64 // bytes, of the parent and the children

	processes time.Time         // when the children's processes were looked at
	ended     map[int]time.Time // since when a child that the board still has is known to have ended, by process id
	memory    map[int]uint64    // bytes, by process id

	ring   *scoreboard.Ring
	events []scoreboard.Event

	shown shown // what pages are told
}

// counters never go backwards in one life of a daemon. What a child counts is added to the header's count a moment after its slot
// was cleared, so for that moment their sum is too small.
type counters struct{ done, skipped, refused, lost, born, died, killed uint64 }

func newWatcher(d Daemon, boot string) *watcher {
	return &watcher{name: d.Name, path: filepath.Join(d.Dir, control.BoardName), boot: boot}
}

// look reads the board anew. It reports whether there is anything new to be shown, which has the given version then.
func (w *watcher) look(now time.Time, version uint64) bool {
	board, err := scoreboard.Read(w.path)
	w.board, w.why = board, err
	if err == nil {
		if life := lifeOf(board); life != w.life {
			w.begin(life)
		}
		w.count()
		w.lookAtProcesses(now)
	}
	w.condition, w.problem = w.judge(now)
	w.readEvents()
	return w.shown.update(w, now, version)
}

// lifeOf names one life. An upgrade is no end of it.
func lifeOf(s *scoreboard.Snapshot) string {
	return fmt.Sprintf("%d-%d-%d", s.PID, s.Start, s.Created.UnixNano())
}

// begin forgets the daemon that was there before.
func (w *watcher) begin(life string) {
	w.life, w.counters, w.events = life, counters{}, nil
	w.blink, w.processes, w.ended, w.memory = time.Time{}, time.Time{}, map[int]time.Time{}, map[int]uint64{}
	if w.ring != nil {
		w.ring.Close()
		w.ring = nil
	}
}

func (w *watcher) count() {
	s := w.board
	done, skipped, refused := s.Done, s.Skipped, s.Refused
	for _, c := range s.Children {
		done, skipped, refused = add(done, c.Done), add(skipped, c.Skipped), add(refused, c.Refused)
	}
	was := w.counters
	w.counters = counters{
		done: max(was.done, done), skipped: max(was.skipped, skipped), refused: max(was.refused, refused), lost: max(was.lost, s.Lost),
		born: max(was.born, s.Born), died: max(was.died, s.Died), killed: max(was.killed, s.Killed),
	}
}

// add stops at the end of numbers: a child may write any.
func add(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return ^uint64(0)
}

// lookAtProcesses finds out which children have ended and what memory the others take.
func (w *watcher) lookAtProcesses(now time.Time) {
	if now.Sub(w.processes) < processesEvery {
		return
	}
	w.processes = now
	was := w.ended
	w.ended, w.memory = map[int]time.Time{}, map[int]uint64{}
	parent, _ := view.ProcessOf(w.board.PID)
	w.resident = parent.Resident
	for _, c := range w.board.Children {
		if c.PID == 0 {
			continue
		}
		switch p, err := view.ProcessOf(c.PID); {
		case err != nil || p.Ended():
			if w.ended[c.PID] = now; !was[c.PID].IsZero() {
				w.ended[c.PID] = was[c.PID]
			}
		case p.Parent == w.board.PID: // a child may write any number into its slot
			w.memory[c.PID] = p.Resident
			w.resident += p.Resident
		}
	}
}

// judge tells what is the matter with the daemon.
func (w *watcher) judge(now time.Time) (condition, string) {
	switch {
	case errors.Is(w.why, fs.ErrNotExist):
		return absent, fmt.Sprintf("Not running: there is no %s.", logs.Escape(w.path))
	case w.why != nil:
		return unreadable, fmt.Sprintf("The scoreboard cannot be read: %s.", logs.Escape(w.why.Error()))
	}
	p, err := view.ProcessOf(w.board.PID)
	switch {
	case err != nil, p.Start != w.board.Start, w.boot != w.board.BootID:
		return w.died()
	case !p.Ended():
		w.blink = time.Time{}
	case w.blink.IsZero():
		w.blink = now
	case now.Sub(w.blink) >= blinkTime:
		return w.died()
	}
	if p.Stopped() || p.Traced() {
		return stopped, fmt.Sprintf("Its parent, process %d, is stopped, by a signal or a debugger: nothing is decided until it goes on.", w.board.PID)
	}
	for _, c := range w.board.Children {
		if since, ok := w.ended[c.PID]; ok && now.Sub(since) >= hangTime {
			return hangs, fmt.Sprintf("Its parent, process %d, hangs: it does not notice that child %d in slot %d has ended.", w.board.PID, c.PID, c.Slot)
		}
	}
	return alive, ""
}

func (w *watcher) died() (condition, string) {
	return dead, fmt.Sprintf("Its parent, process %d, is dead. This is what the scoreboard showed last; children finish their jobs and leave.",
		w.board.PID)
}

// running reports whether the daemon has a parent that is alive, whatever that does.
func (w *watcher) running() bool {
	return w.condition == alive || w.condition == stopped || w.condition == hangs
}

// readEvents reads what the parent has recorded since the last look. The file is kept open: what it wrote last before it took
// the board away is still there.
func (w *watcher) readEvents() {
	if w.ring == nil && w.board != nil {
		ring, err := scoreboard.OpenRing(w.path)
		if err != nil {
			return // the next look tells why
		}
		if ring.Identity() != w.board.Identity { // another daemon has come in this moment
			ring.Close()
			return
		}
		w.ring = ring
	}
	if w.ring == nil {
		return
	}
	fresh, err := w.ring.Since(w.last())
	if err != nil {
		return
	}
	w.events = append(w.events, fresh...)
	w.events = w.events[max(0, len(w.events)-scoreboard.Events):]
}

// last is the number of the last event that is known.
func (w *watcher) last() uint64 {
	if len(w.events) == 0 {
		return 0
	}
	return w.events[len(w.events)-1].Seq
}

// serves returns why the daemon does not serve; empty: it does.
func (w *watcher) serves() string {
	if w.condition != alive {
		return w.problem
	}
	switch w.board.State {
	case "serving", "reloading", "upgrading":
		return ""
	case "degraded":
		for _, c := range w.board.Children {
			if c.Kind == scoreboard.Serve && c.State != scoreboard.Starting && w.ended[c.PID].IsZero() {
				return ""
			}
		}
		return "degraded, and no child serves: " + logs.Escape(view.FirstLine(w.board.Trouble))
	}
	return "it is " + logs.Escape(w.board.State)
}
