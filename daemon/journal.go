package daemon

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// A journal writes what the parent says into the scoreboard's ring of events, and then passes it on to the log. It is the only
// place where events are made: whatever is worth a line of the log is one, and so are those lines that the log gets at level
// debug, or not at all while lines are rationed, and that have a kind of their own. A log that is full, stuck or rationed
// takes nothing from the ring.
type journal struct {
	next  slog.Handler
	ring  *ring
	attrs []slog.Attr
}

// A ring is the scoreboard's, for any goroutine, while there is one.
type ring struct {
	mu     sync.Mutex
	board  *scoreboard.Board // nil: there is none yet, or no more
	failed bool              // and this has been said
}

// A sort is the kind of the events that one message makes, and what distinguishes it from others of that kind.
type sort struct {
	kind scoreboard.EventKind
	word string
}

// sorts has the messages that are no mere notes.
var sorts = map[string]sort{
	"starting":                              {scoreboard.EventStart, ""},
	"serving":                               {scoreboard.EventServing, ""},
	"child started":                         {scoreboard.EventSpawn, ""},
	"child ready":                           {scoreboard.EventReady, ""},
	"dequeue child ready":                   {scoreboard.EventReady, ""},
	"child drains":                          {scoreboard.EventDrain, ""},
	"draining all children":                 {scoreboard.EventDrain, "all children"},
	"drain refused":                         {scoreboard.EventDrain, "refused"},
	"drained":                               {scoreboard.EventDrained, ""},
	"log level":                             {scoreboard.EventLogLevel, ""},
	"evicting child":                        {scoreboard.EventEvict, ""},
	"killing child":                         {scoreboard.EventKill, ""},
	"start of child called off":             {scoreboard.EventKill, "called off before its birth"},
	"child ended":                           {scoreboard.EventExit, ""},
	"dequeue child has done its work":       {scoreboard.EventExit, ""},
	"child died":                            {scoreboard.EventDied, ""},
	"child failed to start":                 {scoreboard.EventFailed, ""},
	"dequeue child failed":                  {scoreboard.EventFailed, ""},
	"the daemon cannot start":               {scoreboard.EventFailed, "the daemon cannot start"},
	"client has left":                       {scoreboard.EventGone, ""},
	"job has run for longer than it may":    {scoreboard.EventOvertime, ""},
	"job revoked":                           {scoreboard.EventRevoke, ""},
	"reload":                                {scoreboard.EventReload, ""},
	"new generation serves":                 {scoreboard.EventSettled, ""},
	"reload done":                           {scoreboard.EventReloaded, ""},
	"reload not needed":                     {scoreboard.EventUnchanged, ""},
	"reload failed, the old children go on": {scoreboard.EventReloadFailed, ""},
	"upgrade":                               {scoreboard.EventUpgrade, ""},
	"upgraded":                              {scoreboard.EventUpgraded, ""},
	"upgrade failed, the parent goes on as it was":                     {scoreboard.EventUpgradeFailed, ""},
	"the new program cannot take over, the children finish their jobs": {scoreboard.EventUpgradeFailed, "the children finish their jobs"},
	"scale":                        {scoreboard.EventScale, ""},
	"scale refused":                {scoreboard.EventScale, "refused"},
	"growing":                      {scoreboard.EventGrow, ""},
	"log files reopened":           {scoreboard.EventReopen, ""},
	"log files cannot be reopened": {scoreboard.EventReopen, "failed"},
	"operator":                     {scoreboard.EventOperator, ""},
	"operator refused":             {scoreboard.EventOperator, "refused"},
	"degraded":                     {scoreboard.EventDegraded, ""},
	"recovered":                    {scoreboard.EventRecovered, ""},
	"stopping":                     {scoreboard.EventStop, ""},
}

// newJournal returns a logger whose lines go to the ring, and to a log.
func newJournal(log *slog.Logger, r *ring) *slog.Logger {
	return slog.New(&journal{next: log.Handler(), ring: r})
}

// Enabled reports whether there could be an event, or a line.
func (j *journal) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelDebug || j.next.Enabled(ctx, level)
}

// Handle makes the event, and the line.
func (j *journal) Handle(ctx context.Context, r slog.Record) error {
	if _, ok := sorts[r.Message]; ok || r.Level >= slog.LevelInfo {
		if err := j.ring.record(r, j.attrs); err != nil {
			lost := slog.NewRecord(r.Time, slog.LevelError, "events cannot be written to the scoreboard", 0)
			lost.Add("err", err)
			j.next.Handle(ctx, lost)
		}
	}
	if !j.next.Enabled(ctx, r.Level) {
		return nil
	}
	return j.next.Handle(ctx, r)
}

// WithAttrs returns a journal that says this every time.
func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journal{j.next.WithAttrs(attrs), j.ring, append(j.attrs[:len(j.attrs):len(j.attrs)], attrs...)}
}

// WithGroup returns a journal whose lines name the group. Its events do not.
func (j *journal) WithGroup(name string) slog.Handler {
	return &journal{j.next.WithGroup(name), j.ring, j.attrs}
}

// open begins to write events, and close, with nil, ends that.
func (r *ring) open(b *scoreboard.Board) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.board = b
}

// last returns the sequence number of the last event, for the next parent.
func (r *ring) last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.board == nil {
		return 0
	}
	return r.board.Recorded()
}

// record writes an event. It returns the first error of a row of them.
func (r *ring) record(rec slog.Record, attrs []slog.Attr) error {
	e := eventOf(rec, attrs)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.board == nil {
		return nil
	}
	err := r.board.Record(e)
	first := !r.failed
	if r.failed = err != nil; first {
		return err
	}
	return nil
}

// say writes a line, or only the event that it would make.
func (l *loop) say(a actLog) {
	if !a.silent {
		l.log.Log(context.Background(), slog.Level(a.level), a.msg, a.attrs...)
		return
	}
	r := slog.NewRecord(time.Now(), slog.Level(a.level), a.msg, 0)
	r.Add(a.attrs...)
	l.try(l.ring.record(r, nil))
}

// leads are the names of what an event says that need not be told, in the order in which it is said: what is short and the
// parent's own first.
var leads = []string{"verb", "status", "how", "action", "cause", "reason", "err"}

// foreign are those of what a client may have chosen. It comes last, so that it can be cut, and cannot pass for anything else.
var foreign = []string{"client", "text"}

// eventOf makes an event of a line of the log.
func eventOf(rec slog.Record, attrs []slog.Attr) scoreboard.Event {
	s := sorts[rec.Message]
	e := scoreboard.Event{Time: rec.Time, Kind: s.kind, Slot: -1}
	said := map[string]string{}
	var named []string
	var uid *uint32
	take := func(a slog.Attr) bool {
		v := a.Value.Resolve()
		n, isNumber := wholeNumber(v)
		switch {
		case a.Key == "slot" && isNumber:
			e.Slot = int(n)
		case a.Key == "pid" && isNumber:
			e.PID = int(n)
		case a.Key == "generation" && isNumber:
			e.Generation = n
		case a.Key == "job" && isNumber:
			e.Job = n
		case a.Key == "done" && isNumber:
			e.Done = n
		case a.Key == "uid" && isNumber:
			u := uint32(n)
			uid = &u
		case slices.Contains(leads, a.Key), slices.Contains(foreign, a.Key):
			said[a.Key] = v.String()
		default:
			named = append(named, a.Key+"="+v.String())
		}
		return true
	}
	for _, a := range attrs {
		take(a)
	}
	rec.Attrs(take)
	if uid != nil { // then it is his process
		e.Operator, e.PID = &scoreboard.Operator{UID: *uid, PID: e.PID}, 0
	}
	var parts []string
	say := func(keys []string) {
		for _, key := range keys {
			if v := said[key]; v != "" {
				parts = append(parts, v)
			}
		}
	}
	say(leads)
	parts = append(parts, named...)
	say(foreign)
	e.Text = strings.Join(parts, ", ")
	if s.kind == scoreboard.EventNote {
		s.word = rec.Message
	}
	switch {
	case s.word != "" && e.Text != "":
		e.Text = s.word + ": " + e.Text
	case s.word != "":
		e.Text = s.word
	}
	return e
}

// wholeNumber returns a whole number that is not negative.
func wholeNumber(v slog.Value) (uint64, bool) {
	switch v.Kind() {
	case slog.KindInt64:
		return uint64(v.Int64()), v.Int64() >= 0
	case slog.KindUint64:
		return v.Uint64(), true
	}
	return 0, false
}
