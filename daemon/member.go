package daemon

import (
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// A member is a child as the pool knows it.
type member struct {
	who
	pid        int    // 0: being started
	cause      string // why it is started
	kind       scoreboard.Kind
	generation uint64
	phase      phase
	deadline   time.Time // of the phase, never: none
	readyAt    time.Time
	failures   int                  // in this place before this one, in a row
	queues     []int                // on which it waits, if children have queues of their own
	beside     bool                 // of their owners
	paused     bool                 // it accepts nothing, as it has said
	busy       bool                 // at the last look
	done       uint64               // jobs it had done then
	idleSince  time.Time            // as far as has been seen
	asked      bool                 // to leave if it is idle
	evicted    bool                 // its jobs have been told to end
	drains     time.Time            // since when
	sign       time.Time            // of life, the last one
	pinged     time.Time            // since when it has not answered; never: it has
	expires    time.Time            // never: it may serve as long as it likes
	end        string               // why it is to end; empty: its exit is unexpected
	failed     string               // why its start is given up
	lost       map[uint64]time.Time // clients of jobs, and when
	forgot     time.Time            // when old ones were taken out
	revoked    *revocation
	revokedFor string // why a job of it was revoked last
	revokedJob uint64 // and which one
	late       uint64 // the last job whose time was over
	waiting    []revocation
	leavers    []func(error) // who wait until it has gone
}

// A revocation is a job that is to end, and its child with it: its client has left, or its time is over.
type revocation struct {
	serial uint64
	why    string
	term   bool // SIGTERM comes before SIGKILL
	killAt time.Time
}
