package daemon

import (
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/netmon"
	"github.com/brooddaemon/brood/scoreboard"
)

// An event is something that happened outside the parent's loop. The set is sealed; those marked "for the loop" the
// pool has no part in.
type event interface{ isEvent() }

// A who names one life of one child: slots are reused, and a word that arrives late must not be taken for that of the
// next child in the slot.
type who struct{ slot, life int }

// A stopMode is how the daemon ends, mildest first.
type stopMode int

const (
	stopNot   stopMode = iota
	stopDrain          // jobs may go on until StopTimeout
	stopQuick          // jobs are cancelled and have KillGrace
	stopKill           // everybody is killed
)

type (
	// start begins the daemon's life: the first generation is there.
	evStart struct{}
	// spawned and spawnFailed answer an actSpawn.
	evSpawned struct {
		who
		pid     int
		process *process // for the loop
	}
	evSpawnFailed struct {
		who
		err error
	}
	evReady  struct{ who }
	evExited struct {
		who
		status  string // in words: "exit status 7", "signal: killed"
		failed  string // of a child that was never ready: what it said of that
		done    uint64 // jobs it had done
		skipped uint64 // clients it had skipped
		refused uint64 // and refused
	}
	// reload asks for a new generation. auto: by a change of files, and then a build that failed before is not tried again.
	// unasked: nobody waits for it, and it waits itself while the pool is drained.
	evReload struct {
		cause   string
		auto    bool
		unasked bool
		reply   func(error) // may be nil; called once
	}
	// pinned answers an actPin.
	evPinned struct {
		generation uint64
		print      string // fingerprint of the program
		err        error
		unfit      bool     // it has failed its trial
		program    *program // for the loop
	}
	// upgrade asks for the parent's replacement by a new program.
	evUpgrade struct {
		cause string
		reply func(error) // may be nil; called if it fails
	}
	// tried answers an actTry.
	evTried struct {
		err     error
		program *program    // for the loop
		config  *configText // the same
	}
	// notReplaced answers an actFreeze: the new program could not be executed.
	evNotReplaced struct{ err error }
	// resume begins the life of a parent that has taken over.
	evResume struct {
		cause   string
		gap     time.Duration // in which there was no parent to hear of anybody
		reloads []func(error) // who wait for the reload that has been asked for
		scales  []func(error) // who wait until there are as many children as they have asked for
		drains  []evDrain     // who wait until a child, or every child, has left
	}
	// frozen says that nothing more is taken from children. For the loop.
	evFrozen struct{}
	evStop   struct {
		mode  stopMode
		cause string
	}
	// census is what the slots say of the children that serve.
	evCensus struct{ seen []seen }
	// knock answers an actArm: a connection waits.
	evKnock struct{}
	// answered is what a child says that was asked to leave if it is idle.
	evAnswered struct {
		who
		leaves bool
	}
	// overtime says that a job has run for longer than it may.
	evOvertime struct {
		who
		serial uint64
	}
	// spent says that a child has served its time.
	evSpent struct {
		who
		why string
	}
	// proven says that a child has done its first job.
	evProven struct{ who }
	// paused says that a child accepts nothing for a while, or does again.
	evPaused struct {
		who
		paused bool
	}
	// alive answers a ping.
	evAlive struct{ who }
	// stalled says that the parent itself has not run for a while: it was stopped, or the machine was.
	evStalled struct{ d time.Duration }
	// scale moves the number of children that the pool does not go below.
	evScale struct {
		n        int
		relative bool
		cause    string
		reply    func(error) // may be nil; called once
	}
	// limits is what the pool is told anew: they have changed.
	evLimits struct{ limits }
	// drain asks a child, or all of them, to finish and leave.
	evDrain struct {
		pid   int  // 0: all, and nobody takes their place
		begin bool // the answer is not to wait until they have left
		cause string
		reply func(error) // may be nil; called once
	}
	// logLevel sets the level of the log. For the loop.
	evLogLevel struct {
		level string // one of control.Levels
		cause string
		reply func(error)
	}
	// gone says that the client of a job has left. Several eyes may see it; only the first counts.
	evGone struct {
		who
		d Disconnect
	}
	// verdict is the policy's answer to a gone.
	evVerdict struct {
		who
		d      Disconnect
		action Action
	}
	// settled says that a revoked job is over; leaving, that the child ends because of it.
	evSettled struct {
		who
		serial  uint64
		leaving bool
	}
	// overdue answers an actKillJob: the job runs on.
	evOverdue struct {
		who
		serial uint64
	}
	evTick struct{}
	// rung: a child that became busy was asked to say so. For the loop.
	evRung struct{}
	// swept: the connections of busy children have been looked at. For the loop.
	evSwept struct {
		lost []netmon.Lost
		took time.Duration
		err  error
	}
	// found: the child has had the time to say what it knows of a connection that was lost. For the loop.
	evFound struct {
		who
		lost netmon.Lost
	}
	// room: a child has read some of what it was sent, or has ended. For the loop.
	evRoom struct{ who }
	// hint: something has ended on a connection of a child. For the loop.
	evHint struct{}
	// shut says that BeforeShutdown has returned. For the loop.
	evShut struct{}
	// reopen asks for the log files to be opened anew. For the loop.
	evReopen struct {
		cause string
		reply func(error)
	}
)

func (evStart) isEvent()       {}
func (evSpawned) isEvent()     {}
func (evSpawnFailed) isEvent() {}
func (evReady) isEvent()       {}
func (evExited) isEvent()      {}
func (evReload) isEvent()      {}
func (evPinned) isEvent()      {}
func (evUpgrade) isEvent()     {}
func (evTried) isEvent()       {}
func (evNotReplaced) isEvent() {}
func (evResume) isEvent()      {}
func (evFrozen) isEvent()      {}
func (evStop) isEvent()        {}
func (evCensus) isEvent()      {}
func (evKnock) isEvent()       {}
func (evAnswered) isEvent()    {}
func (evOvertime) isEvent()    {}
func (evSpent) isEvent()       {}
func (evProven) isEvent()      {}
func (evPaused) isEvent()      {}
func (evAlive) isEvent()       {}
func (evStalled) isEvent()     {}
func (evScale) isEvent()       {}
func (evLimits) isEvent()      {}
func (evDrain) isEvent()       {}
func (evLogLevel) isEvent()    {}
func (evGone) isEvent()        {}
func (evVerdict) isEvent()     {}
func (evSettled) isEvent()     {}
func (evOverdue) isEvent()     {}
func (evTick) isEvent()        {}
func (evRung) isEvent()        {}
func (evFound) isEvent()       {}
func (evHint) isEvent()        {}
func (evRoom) isEvent()        {}
func (evSwept) isEvent()       {}
func (evShut) isEvent()        {}
func (evReopen) isEvent()      {}

// An action is what pool.step has decided. The parent's loop carries it out.
type action interface{ isAction() }

type (
	actSpawn struct {
		who
		kind       scoreboard.Kind
		generation uint64
		suspect    bool // the ones before it in this place have failed
		cause      string
	}
	// pin opens the program as it is now, for a new generation; unpin closes it.
	actPin   struct{ generation uint64 }
	actUnpin struct{ generation uint64 }
	// try puts the program as it is now on trial for the parent's successor. freeze brings everything to rest and executes
	// it; thaw takes both back.
	actTry    struct{ cause string }
	actFreeze struct{}
	actThaw   struct{}
	// tell sends a message to a child.
	actTell struct {
		who
		msg control.Message
	}
	actPhase struct {
		who
		phase phase
	}
	// kill ends a child and all that it has started.
	actKill struct{ who }
	// term sends SIGTERM to a child and its process group.
	actTerm struct{ who }
	// killJob asks whether the child still runs that very job: the answer is an evOverdue or an evSettled.
	actKillJob struct {
		who
		serial uint64
	}
	// revoke writes the serial of a job whose client has left where its child looks before it begins another; 0 takes it back.
	actRevoke struct {
		who
		serial uint64
	}
	actFree   struct{ who }
	actPolicy struct {
		who
		d Disconnect
	}
	actReply struct {
		reply func(error)
		err   error
	}
	// arm asks to be told when a connection waits.
	actArm struct{}
	// adopt says that a reload has succeeded: what the configuration file says of the parent holds from now on.
	actAdopt struct{ generation uint64 }
	// up says that every first child is ready.
	actUp  struct{}
	actLog struct {
		level  int // a slog.Level
		msg    string
		attrs  []any
		silent bool // an event, but no line
	}
	// done ends the parent's loop.
	actDone struct{ err error }
)

func (actSpawn) isAction()   {}
func (actPin) isAction()     {}
func (actUnpin) isAction()   {}
func (actTry) isAction()     {}
func (actFreeze) isAction()  {}
func (actThaw) isAction()    {}
func (actTell) isAction()    {}
func (actPhase) isAction()   {}
func (actKill) isAction()    {}
func (actTerm) isAction()    {}
func (actKillJob) isAction() {}
func (actRevoke) isAction()  {}
func (actFree) isAction()    {}
func (actPolicy) isAction()  {}
func (actReply) isAction()   {}
func (actArm) isAction()     {}
func (actAdopt) isAction()   {}
func (actUp) isAction()      {}
func (actLog) isAction()     {}
func (actDone) isAction()    {}

// never is the time of a deadline that is not set.
var never time.Time
