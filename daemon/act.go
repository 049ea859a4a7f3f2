package daemon

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// step has the pool decide about an event, and does what it has decided. Who is told of something finds it on the board.
func (l *loop) step(now time.Time, ev event) {
	l.mend() // first: a child that is started now would not find its place
	told, done := partition(l.pool.step(now, ev), tells)
	l.act(done)
	l.show(now)
	l.tellProgress()
	l.act(told)
}

// tells reports whether an action is to tell somebody that something has been done.
func tells(a action) bool {
	switch a.(type) {
	case actUp, actReply:
		return true
	}
	return false
}

// partition returns those of which f is true, and the others, in their order.
func partition(all []action, f func(action) bool) (yes, no []action) {
	for _, a := range all {
		if f(a) {
			yes = append(yes, a)
		} else {
			no = append(no, a)
		}
	}
	return yes, no
}

// act carries out what has been decided.
func (l *loop) act(decided []action) {
	for _, a := range decided {
		l.do(a)
	}
}

// do carries out one decision.
func (l *loop) do(a action) {
	switch a := a.(type) {
	case actSpawn:
		l.try(l.board.Bear(a.slot, a.kind, a.generation, a.cause, time.Now()))
		prog := l.programs[a.generation]
		prog.users++
		l.spawner.jobs <- spawnJob{actSpawn: a, program: prog}
	case actPin:
		go l.pin(a.generation)
	case actTry:
		l.tryUpgrade(a.cause)
	case actFreeze:
		l.freeze()
	case actThaw:
		l.thaw()
	case actUnpin:
		l.programs[a.generation].left = true
		l.drop(a.generation)
	case actTell:
		if proc := l.process(a.who); proc != nil {
			if err := proc.tell(l.Parent, a.msg); err != nil && !gone(err) {
				l.log.Error("cannot reach child", "slot", a.slot, "pid", proc.pid, "err", err)
			}
		}
	case actPhase:
		l.try(l.board.SetPhase(a.slot, a.phase))
	case actKill:
		if proc := l.process(a.who); proc != nil && proc.inside != nil {
			l.over, l.err = true, errWontEnd
		} else if proc != nil {
			l.undertaker.kill(proc)
		}
	case actTerm:
		if proc := l.process(a.who); proc != nil && proc.inside == nil {
			proc.signal(unix.SIGTERM)
		}
	case actKillJob:
		l.killJob(a)
	case actRevoke:
		l.try(l.board.SetRevoked(a.slot, a.serial))
	case actFree:
		l.try(l.board.Free(a.slot))
		l.lostTurns() // now that nobody counts on it
	case actPolicy:
		if !l.hooks.do("OnClientDisconnect", func() { l.judge(evGone(a)) }) {
			l.later = append(l.later, evVerdict{a.who, a.d, Ignore})
		}
	case actReply:
		a.reply(a.err)
	case actAdopt:
		l.adopt(a.generation)
	case actArm:
		l.try(l.knocker.arm())
	case actUp:
		l.log.Info("serving", "children", l.pool.target, "generation", l.pool.generation)
		l.launcher.say(nil)
		l.crashToLog()
		if l.cfg.AllReady != nil {
			l.hooks.do("AllReady", func() { l.cfg.AllReady(l.Parent) })
		}
	case actLog:
		l.say(a)
	case actDone:
		l.over, l.err = true, a.err
	}
}

// killJob ends a child whose job did not come to its end in time, unless it has begun another one since: the child
// says so on the board before it looks whether it may.
func (l *loop) killJob(a actKillJob) {
	proc := l.process(a.who)
	if proc == nil {
		return
	}
	hint, err := l.board.Look(a.slot)
	if err == nil && proc.under.Concurrency == 1 && hint.Serial != a.serial {
		l.later = append(l.later, evSettled{a.who, a.serial, false})
		return
	}
	l.later = append(l.later, evOverdue(a))
}

// release notes that a child has been started from a generation's program, or cannot be.
func (l *loop) release(generation uint64) {
	if prog := l.programs[generation]; prog != nil {
		prog.users--
		l.drop(generation)
	}
}

// drop closes a generation's program when it has been given up and nobody is being started from it.
func (l *loop) drop(generation uint64) {
	if prog := l.programs[generation]; prog.left && prog.users == 0 {
		prog.close()
		delete(l.programs, generation)
	}
}

func (l *loop) reopen(ev evReopen) {
	err := l.reopenLogs()
	if err != nil {
		l.log.Error("log files cannot be reopened", "cause", ev.cause, "err", err)
	} else {
		l.log.Info("log files reopened", "cause", ev.cause)
	}
	if ev.reply != nil {
		ev.reply(err)
	}
}

// pin opens the program for a generation, away from the loop. The first one is that of the start.
func (l *loop) pin(generation uint64) {
	t, err := l.now(), error(nil)
	if generation > 1 {
		t, err = l.renew()
	}
	var prog *program
	if err == nil {
		prog, err = l.pinProgram(t, generation == 1)
	}
	if prog != nil {
		prog.terms = t
		if prog.papers, err = l.sealPapers(t); err != nil {
			prog.close()
			prog = nil
		}
	}
	ev := evPinned{generation: generation, err: err, program: prog}
	if prog != nil {
		ev.print = prog.print
	}
	if prog != nil && generation > 1 {
		if ev.err = l.spawner.tryChild(prog); ev.err != nil {
			prog.close()
			ev.program, ev.unfit = nil, true
		}
	}
	l.post(ev)
}

// gone reports whether a message could not be delivered because the child has just died.
func gone(err error) bool {
	return errors.Is(err, os.ErrClosed) || errors.Is(err, errPipe) || errors.Is(err, errReset)
}
