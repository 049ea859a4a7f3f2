package scoreboard

import "time"

// An EventKind says what the parent has decided, done or seen.
type EventKind uint32

// The kinds of events. A number keeps its meaning for good: other programs read them.
const (
	EventNote          EventKind = iota // what has no kind of its own: a warning, an error, a remark
	EventStart                          // the parent starts
	EventServing                        // every first child is ready
	EventSpawn                          // a child has been started
	EventReady                          // a child takes work
	EventDrain                          // a child is asked to finish and leave
	EventEvict                          // the jobs of a draining child are told to end
	EventKill                           // a child is killed
	EventExit                           // a child has ended as it was asked to, or with its work done
	EventDied                           // a child has ended by itself
	EventFailed                         // a child did not come up
	EventGone                           // the client of a job has left
	EventOvertime                       // the time of a job is over
	EventRevoke                         // a job is to end, and its child with it
	EventReload                         // a new generation begins
	EventSettled                        // the new generation serves
	EventReloaded                       // and has proved itself
	EventUnchanged                      // a reload was not needed
	EventReloadFailed                   // the new generation has been given up
	EventUpgrade                        // the parent's program is about to be replaced
	EventUpgraded                       // it has been
	EventUpgradeFailed                  // it has not been
	EventScale                          // somebody has moved the number of children
	EventGrow                           // the pool has moved it
	EventReopen                         // the log files have been reopened
	EventOperator                       // somebody has asked for something at the control socket
	EventDegraded                       // something fails again and again
	EventRecovered                      // and no longer does
	EventStop                           // the daemon stops
	EventDrained                        // all children were to leave, and nobody is left
	EventLogLevel                       // somebody has set the level of the log

	eventKinds
)

var eventWords = [eventKinds]string{
	"note", "start", "serving", "spawn", "ready", "drain", "evict", "kill", "exit", "died", "failed", "gone", "overtime", "revoke",
	"reload", "settled", "reloaded", "unchanged", "reload-failed", "upgrade", "upgraded", "upgrade-failed", "scale", "grow", "reopen",
	"operator", "degraded", "recovered", "stop", "drained", "log-level",
}

// String returns the kind as a word.
func (k EventKind) String() string {
	if k < eventKinds {
		return eventWords[k]
	}
	return "unknown"
}

// MarshalText returns the kind's word, for JSON.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// An Event is something that the parent has decided, done or seen.
type Event struct {
	Seq        uint64    `json:"seq"` // 1 is the daemon's first; an upgrade does not begin anew
	Time       time.Time `json:"time"`
	Kind       EventKind `json:"kind"`
	PID        int       `json:"pid,omitzero"` // of the child, or of the parent that starts; 0: it is about none
	Slot       int       `json:"slot"`         // the child's, -1: it is about none
	Generation uint64    `json:"generation,omitzero"`
	Job        uint64    `json:"job,omitzero"`  // serial, 0: it is about none
	Done       uint64    `json:"done,omitzero"` // jobs that a child had done which has ended
	Operator   *Operator `json:"operator,omitzero"`
	// Text is the reason, or what there is to say beyond the kind. It is cut at 440 bytes, and may be what a stranger has sent:
	// who shows it escapes it.
	Text string `json:"text,omitzero"`
}

// An Operator is who has asked for something at the control socket, as the kernel names him.
type Operator struct {
	UID uint32 `json:"uid"`
	PID int    `json:"pid"` // 0: he lives where the parent cannot see processes
}

// encode makes the record of an event.
func (e Event) encode() []byte {
	r := make([]byte, EventSize)
	order.PutUint64(r[eSequence:], e.Seq)
	if !e.Time.IsZero() {
		order.PutUint64(r[eTime:], uint64(e.Time.UnixNano()))
	}
	order.PutUint32(r[eKind:], uint32(e.Kind))
	order.PutUint32(r[eSlot:], uint32(e.Slot+1))
	order.PutUint64(r[ePID:], uint64(e.PID))
	order.PutUint64(r[eGeneration:], e.Generation)
	order.PutUint64(r[eJob:], e.Job)
	order.PutUint64(r[eDone:], e.Done)
	if e.Operator != nil {
		order.PutUint32(r[eOperator:], uint32(e.Operator.PID))
		order.PutUint32(r[eUser:], e.Operator.UID+1)
	}
	putText(r[eText:], e.Text)
	order.PutUint64(r[eSum:], sum(r))
	return r
}

// decodeEvent returns ok false for a record that is empty, torn or damaged.
func decodeEvent(r []byte) (e Event, ok bool) {
	get := func(off int) uint64 { return order.Uint64(r[off:]) }
	e = Event{
		Seq: get(eSequence), Time: stamp(get(eTime)), Kind: EventKind(order.Uint32(r[eKind:])), PID: pid(get(ePID)), Slot: -1,
		Generation: get(eGeneration), Job: get(eJob), Done: get(eDone), Text: text(r[eText:]),
	}
	if e.Seq == 0 || get(eSum) != sum(r) {
		return Event{}, false
	}
	if slot := order.Uint32(r[eSlot:]); slot <= MaxSlots {
		e.Slot = int(slot) - 1
	}
	if user := order.Uint32(r[eUser:]); user != 0 {
		e.Operator = &Operator{UID: user - 1, PID: pid(uint64(order.Uint32(r[eOperator:])))}
	}
	return e, true
}
