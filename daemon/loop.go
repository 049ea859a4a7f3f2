package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/scoreboard"
)

// A loop is the one goroutine that owns the parent's state. It takes an event, lets the pool decide, and acts.
// Nothing in it blocks: what may wait, such as executing a program or a user's policy, runs elsewhere and posts the
// result.
type loop struct {
	*Parent
	pool       *pool
	launcher   *readyPipe
	processes  map[int]*process // by slot
	programs   map[uint64]*program
	spawner    *spawner
	hooks      *hooks
	undertaker *undertaker
	stops      []evStop // wait for BeforeShutdown
	shutting   bool     // BeforeShutdown has been called
	shut       bool     // and has returned, or been given up
	watch      *watch
	later      []event           // that acting brought about, to be taken before any other
	shown      scoreboard.Status // as last written to the board
	attention  scoreboard.Attention
	knocker    *knocker
	succession succession
	operators  *net.UnixListener
	err        error
	over       bool
}

func newLoop(p *Parent, launcher *readyPipe) *loop {
	slots := p.board.Slots()
	return &loop{
		Parent: p, launcher: launcher,
		pool: newPool(limits{
			mode: p.cfg.Pool, prefork: p.cfg.Prefork, maxChildren: p.cfg.MaxChildren,
			minSpare: p.cfg.MinSpare, maxSpare: p.cfg.MaxSpare,
			idleTimeout: p.cfg.IdleTimeout, minChildAge: p.cfg.MinChildAge, maxAge: p.cfg.MaxAge, slots: slots, parallel: parallelStarts(),
			startTimeout: p.cfg.StartTimeout, drainTimeout: p.cfg.DrainTimeout,
			stopTimeout: p.cfg.StopTimeout, killGrace: p.cfg.KillGrace,
			hungAfter: max(p.cfg.HungAfter, 0), soak: max(p.cfg.Soak, 0),
			minReloadInterval: p.cfg.MinReloadInterval, upgradeAfterReload: p.cfg.UpgradeAfterReload,
			maxDrainingGenerations: p.cfg.MaxDrainingGenerations, maxDrainingChildren: p.cfg.MaxDrainingChildren,
			dequeueMax: p.cfg.Dequeue.Max, dequeueEvery: p.cfg.Dequeue.Every,
		}),
		processes: map[int]*process{}, programs: map[uint64]*program{},
		spawner:    &spawner{p: p, jobs: make(chan spawnJob, slots+1)},
		hooks:      newHooks(p),
		undertaker: newUndertaker(p, slots),
		watch:      newWatch(p),
		knocker:    &knocker{p: p, fd: -1},
	}
}

// run returns when the daemon has stopped: every child has been reaped.
func (l *loop) run(ctx context.Context) error {
	bury := func() {}
	defer func() { bury() }()
	defer close(l.done)
	stop, err := l.startSources(ctx)
	if err != nil {
		return err
	}
	bury = l.undertaker.finish
	defer stop()
	if l.handed == nil {
		l.log.Info("starting", "name", l.cfg.Name, "pid", os.Getpid(), "program", l.program, "run_dir", l.cfg.RunDir)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var ev event = evStart{}
	if l.handed != nil {
		if err := l.resume(); err != nil {
			return err
		}
		ev = l.resumed()
		l.later = append(l.later, evRung{})
	}
	wake := never
	for {
		now := time.Now()
		if late := now.Sub(wake); wake != never && late > stall {
			l.act(l.pool.step(now, evStalled{late}))
		}
		// Who is told of something finds it on the board.
		told, done := partition(l.pool.step(now, l.prepare(ev)), tells)
		l.act(done)
		l.show(now)
		l.act(told)
		if l.over {
			return l.err
		}
		timer.Stop()
		l.succeed()
		if wake = l.pool.wake(); wake != never {
			timer.Reset(time.Until(wake))
		}
		if l.succession.frozen {
			timer.Reset(quietEvery)
		}
		if len(l.later) > 0 {
			ev, l.later = l.later[0], l.later[1:]
			continue
		}
		select {
		case ev = <-l.events:
		case s := <-l.signals:
			ev = asked(s)
		case <-timer.C:
			ev = evTick{}
		case <-l.watch.due():
			l.watch.sweep(l.processes)
			ev = evTick{}
		}
	}
}

// prepare does the loop's own part of an event before the pool sees it.
func (l *loop) prepare(ev event) event {
	switch ev := ev.(type) {
	case evPinned:
		if ev.program != nil {
			l.programs[ev.generation] = ev.program
		}
	case evSpawned:
		l.processes[ev.slot] = ev.process
		l.try(l.board.SetPID(ev.slot, ev.pid))
		l.release(ev.process.generation)
	case evSpawnFailed:
		if m := l.pool.find(ev.who); m != nil {
			l.release(m.generation)
		}
	case evReady:
		if proc := l.process(ev.who); proc != nil {
			proc.words.stop()
		}
		// It may be busy already: then it has rung, but while it was not known to serve nobody counted it.
		if h, err := l.board.Look(ev.slot); err == nil && h.State.Busy() {
			l.later = append(l.later, evRung{})
		}
	case evExited:
		proc := l.process(ev.who)
		if proc == nil {
			break
		}
		ev.status = proc.reap()
		if proc.words.wanted() {
			ev.failed = proc.words.why(ev.status)
		}
		// A number that no child can have reached is a lie.
		if hint, err := l.board.Look(ev.slot); err == nil && hint.Done < 1<<48 && hint.Skipped < 1<<48 {
			ev.done, ev.skipped = hint.Done, hint.Skipped
		}
		l.noteUnfinished(ev)
		delete(l.processes, ev.slot)
		proc.control.Close()
		l.undertaker.bury(proc)
		l.tellExit(proc)
		return ev
	case evStop:
		return l.beforeShutdown(ev)
	case evShut:
		l.shutDown()
	case evRung, evTick:
		return l.look()
	case evFound:
		return l.found(ev)
	case evRoom:
		if proc := l.process(ev.who); proc != nil {
			if err := proc.tellRest(l.Parent); err != nil && !gone(err) {
				l.log.Error("cannot reach child", "slot", ev.slot, "pid", proc.pid, "err", err)
			}
		}
	case evHint:
		l.watch.hint()
	case evSwept:
		l.swept(ev)
		return l.look()
	case evReopen:
		go l.reopen(ev)
	case evTried:
		l.succession.program = ev.program
	case evFrozen:
		l.succession.frozen, l.succession.since = true, time.Now()
		if !l.pool.holding() { // it has been given up meanwhile
			l.thaw()
		}
	}
	return ev
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

func (l *loop) process(w who) *process {
	if proc := l.processes[w.slot]; proc != nil && proc.who == w {
		return proc
	}
	return nil
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
		if proc := l.process(a.who); proc != nil {
			l.undertaker.kill(proc)
		}
	case actTerm:
		if proc := l.process(a.who); proc != nil {
			proc.signal(unix.SIGTERM)
		}
	case actKillJob:
		l.killJob(a)
	case actRevoke:
		l.try(l.board.SetRevoked(a.slot, a.serial))
	case actFree:
		l.try(l.board.Free(a.slot))
	case actPolicy:
		if !l.hooks.do("OnClientDisconnect", func() { l.judge(evGone(a)) }) {
			l.later = append(l.later, evVerdict{a.who, a.d, Ignore})
		}
	case actReply:
		a.reply(a.err)
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
	if err == nil && l.cfg.Concurrency == 1 && hint.Serial != a.serial {
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
	prog, err := l.pinProgram(generation == 1)
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
