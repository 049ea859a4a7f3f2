package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/internal/notify"
	"github.com/brooddaemon/brood/scoreboard"
)

const (
	// statusEvery is how often the service manager is told of a change in the status line alone, at most.
	statusEvery = time.Second
	// notifyAgain is when it is tried again after it had no room for a message.
	notifyAgain = 250 * time.Millisecond
)

// A service is the service manager as the parent deals with it (systemd, Type=notify-reload). The zero service is that of a
// daemon which has none.
//
// Everything is sent from the loop, so that the manager's watchdog sees a loop that hangs; nothing is waited for.
type service struct {
	Socket   string // where the manager is told how the daemon is; empty: nowhere
	notifier *notify.Notifier
	watchdog time.Duration   // 0: it wants no sign of life
	given    []inherit.Given // descriptors that nobody has asked for yet
	problem  error           // with what the manager has said

	phase    servicePhase
	owed     [][]string // that it must be told yet, in order
	again    time.Time  // not before
	status   string     // that it has been told last
	statusAt time.Time
	beatAt   time.Time
	wakeAt   time.Time // of the timer
	timer    *time.Timer
	trouble  string // the last that has been logged
}

// A servicePhase is what the daemon does in the eyes of a service manager.
type servicePhase struct {
	word    string
	rolling uint64 // the generation that a reload is about to bring
}

// reloadingWord stands for notify.Reloading, which has a time in it.
const reloadingWord = "RELOADING=1"

func newService(told inherit.Service) service {
	s := service{Socket: told.Socket, watchdog: told.Watchdog, given: told.Given}
	var err error
	s.notifier, err = notify.New(s.Socket)
	s.problem = errors.Join(told.Err, err)
	return s
}

// report tells the service manager what it must know by now. It is called after each step of the pool.
func (l *loop) report(now time.Time) {
	s := &l.service
	if s.notifier == nil {
		return
	}
	status := l.pool.statusLine()
	if ph := phaseFor(&l.pool.status); ph != s.phase {
		s.phase = ph
		if ph.word != "" {
			s.owe(ph, now, status)
		}
	}
	for len(s.owed) > 0 && !now.Before(s.again) && s.send(l.log, now, s.owed[0]...) {
		s.owed = s.owed[1:]
	}
	due := never
	soonest := func(t time.Time) {
		if due == never || t.Before(due) {
			due = t
		}
	}
	switch {
	case len(s.owed) > 0:
		soonest(s.again)
	case status != s.status:
		if next := s.statusAt.Add(statusEvery); now.Before(next) {
			soonest(next)
			break
		}
		s.statusAt = now
		if s.send(l.log, now, notify.Status(status)) {
			s.status = status
		} else {
			soonest(now.Add(statusEvery))
		}
	}
	if s.watchdog > 0 {
		if !now.Before(s.beatAt) {
			s.beatAt = now.Add(s.watchdog / 2)
			if !s.send(l.log, now, notify.Watchdog) && s.again.Before(s.beatAt) {
				s.beatAt = s.again
			}
		}
		soonest(s.beatAt)
	}
	l.wakeFor(due, now)
}

// phaseFor is what a state of the daemon means to a service manager.
func phaseFor(st *scoreboard.Status) servicePhase {
	switch {
	case st.State == "stopping":
		return servicePhase{word: notify.Stopping}
	case st.State == "starting":
		return servicePhase{}
	case st.State == "upgrading": // the new program says that it is ready
		return servicePhase{word: reloadingWord}
	case st.Rolling != 0:
		// Each reload by itself: the manager waits for the one that has begun after its SIGHUP.
		return servicePhase{reloadingWord, st.Rolling}
	}
	return servicePhase{word: notify.Ready}
}

// owe puts the news down that the daemon is in another phase. It takes the place of older news, but the end of a reload must
// not come without its begin: the manager would wait for ever.
func (s *service) owe(ph servicePhase, now time.Time, status string) {
	msg := []string{ph.word}
	if ph.word == reloadingWord {
		msg = notify.Reloading(now)
	}
	kept := 0
	if ph.word == notify.Ready && len(s.owed) > 0 && s.owed[0][0] == reloadingWord {
		kept = 1
	}
	s.owed = append(s.owed[:kept], append(msg, notify.Status(status)))
	s.status, s.statusAt = status, now
}

// send reports whether a message is done with. One that cannot be delivered at all is, too; the log is told.
func (s *service) send(log *slog.Logger, now time.Time, assignments ...string) bool {
	err := s.notifier.Send(assignments...)
	if err != nil && notify.Later(err) {
		s.again = now.Add(notifyAgain)
		return false
	}
	s.complain(log, err)
	return true
}

// complain logs an error unless it was the last one, too.
func (s *service) complain(log *slog.Logger, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != s.trouble {
		log.Warn("cannot reach the service manager", "err", err)
	}
	s.trouble = text
}

// wakeFor makes the loop take a step at a certain time; never: whenever it likes.
func (l *loop) wakeFor(due, now time.Time) {
	s := &l.service
	if due == never || s.wakeAt.After(now) && !due.Before(s.wakeAt) {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.wakeAt = due
	s.timer = time.AfterFunc(due.Sub(now), func() { l.post(evTick{}) })
}

// statusLine says in a line how the daemon is. Who is busy is not in it: nobody would keep it true.
func (p *pool) statusLine() string {
	s := &p.status
	text := fmt.Sprintf("%s: %d of %d children serve, generation %d", s.State, p.count(0, phaseServing), s.Want, s.Generation)
	switch {
	case p.err != nil:
		text += "; " + p.err.Error()
	case s.Rolling != 0:
		text += fmt.Sprintf(", generation %d is to follow: %s", s.Rolling, p.roll.cause)
	case s.Trouble != "":
		text += "; " + s.Trouble
	}
	if s.Rolling == 0 && s.Reload != "" && !s.ReloadOK {
		text += "; the last reload failed: " + s.Reload
	}
	return text
}

// ended is the last that the service manager is told. After an orderly stop it forgets the listeners; after any other end it
// may start the daemon again, with clients in their queues, who find the path of a Unix socket where it was.
func (p *Parent) ended(err error) {
	s := &p.service
	if s.timer != nil {
		s.timer.Stop()
	}
	text := "stopped"
	if err != nil {
		text = err.Error()
	}
	for _, l := range p.listeners {
		switch {
		case l.stored == "":
		case err == nil:
			s.forget(p.log, l.stored)
		default:
			l.path = ""
		}
	}
	for _, g := range s.given { // the start has failed before anybody could ask for them
		unix.Close(g.FD)
	}
	s.notifier.Send(notify.Status(text))
}
