package scoreboard

// A State is what a child says of itself, as one of Apache's letters.
type State byte

// The letters that status pages have shown for thirty years, and operators know.
const (
	Empty      State = '.' // the slot is free
	Starting   State = 'S' // started, not ready yet
	Idle       State = '_' // ready, waiting for work
	Reading    State = 'R' // has a connection, reads the request
	Working    State = 'W' // runs a job
	Cancelling State = 'C' // runs a job that has been told to stop
	Paused     State = 'P' // takes no work until it says so
	Draining   State = 'G' // finishes what it has, takes no more
)

// String returns the state as a word.
func (s State) String() string {
	switch s {
	case Empty:
		return "empty"
	case Starting:
		return "starting"
	case Idle:
		return "idle"
	case Reading:
		return "reading"
	case Working:
		return "working"
	case Cancelling:
		return "cancelling"
	case Paused:
		return "paused"
	case Draining:
		return "draining"
	}
	return "unknown"
}

// Busy reports whether a child in this state has work in its hands.
func (s State) Busy() bool { return s == Reading || s == Working || s == Cancelling }

// MarshalText returns the state's word, for JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Phase is where the parent sees a child in its life.
type Phase uint64

// The phases, in the order in which a child passes them.
const (
	PhaseFree Phase = iota
	PhaseStarting
	PhaseServing
	PhaseDraining
	PhaseKilling
)

// A Kind says what feeds a child.
type Kind uint64

// The kinds.
const (
	Serve   Kind = iota // the daemon's listeners
	Dequeue             // a queue or a timetable of its own
)

// String returns the kind as a word.
func (k Kind) String() string {
	switch k {
	case Serve:
		return "serve"
	case Dequeue:
		return "dequeue"
	}
	return "unknown"
}

// MarshalText returns the kind's word, for JSON.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
