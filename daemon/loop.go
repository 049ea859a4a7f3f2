package daemon

import (
	"context"
	"net"
	"os"
	"time"

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
	mends      ration // of the log
	knocker    *knocker
	succession succession
	operators  *net.UnixListener
	idle       *time.Ticker // for the hook IdleLoop; nil: there is none
	err        error
	over       bool
}

func newLoop(p *Parent, launcher *readyPipe) *loop {
	slots := p.board.Slots()
	return &loop{
		Parent: p, launcher: launcher,
		pool:      newPool(limitsOf(&p.cfg, p.places(), slots)),
		processes: map[int]*process{}, programs: map[uint64]*program{},
		spawner:    &spawner{p: p, jobs: make(chan spawnJob, slots+1)},
		hooks:      newHooks(p),
		undertaker: newUndertaker(p, slots),
		watch:      newWatch(p),
		mends:      ration{most: 1, rate: mendRate},
		knocker:    &knocker{p: p, fd: -1},
	}
}

// run returns when the daemon has stopped: every child has been reaped.
func (l *loop) run(ctx context.Context) error {
	bury := func() {}
	defer func() { bury() }()
	defer func() {
		close(l.done)
		l.answerLast()
	}()
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
			l.step(now, evStalled{late})
		}
		l.step(now, l.prepare(ev))
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
	if l.cfg.NoFork {
		ev = l.withoutChildren(ev)
	}
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
		if hint, err := l.board.Look(ev.slot); err == nil && max(hint.Done, hint.Skipped, hint.Refused) < 1<<48 {
			ev.done, ev.skipped, ev.refused = hint.Done, hint.Skipped, hint.Refused
		}
		l.noteUnfinished(ev, proc)
		delete(l.processes, ev.slot)
		proc.control.Close()
		if proc.inside == nil {
			l.undertaker.bury(proc)
		}
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
	case evLogLevel:
		l.setLogLevel(ev)
	case evTried:
		l.succession.program, l.succession.config = ev.program, ev.config
	case evFrozen:
		l.succession.frozen, l.succession.since = true, time.Now()
		if !l.pool.holding() { // it has been given up meanwhile
			l.thaw()
		}
	}
	return ev
}

func (l *loop) process(w who) *process {
	if proc := l.processes[w.slot]; proc != nil && proc.who == w {
		return proc
	}
	return nil
}

// limitsOf is what the pool is to know of a configuration, with so many queues of listeners and slots of the scoreboard.
func limitsOf(cfg *Config, queues, slots int) limits {
	return limits{
		mode: cfg.Pool, prefork: cfg.Prefork, maxChildren: cfg.MaxChildren,
		minSpare: cfg.MinSpare, maxSpare: cfg.MaxSpare,
		idleTimeout: cfg.IdleTimeout, minChildAge: cfg.MinChildAge, maxAge: cfg.MaxAge, queues: queues, slots: slots, parallel: parallelStarts(),
		startTimeout: cfg.StartTimeout, drainTimeout: cfg.DrainTimeout,
		stopTimeout: cfg.StopTimeout, killGrace: cfg.KillGrace,
		hungAfter: max(cfg.HungAfter, 0), soak: max(cfg.Soak, 0),
		minReloadInterval: cfg.MinReloadInterval, upgradeAfterReload: cfg.UpgradeAfterReload,
		maxDrainingGenerations: cfg.MaxDrainingGenerations, maxDrainingChildren: cfg.MaxDrainingChildren,
		dequeueMax: cfg.Dequeue.Max, dequeueEvery: cfg.Dequeue.Every,
	}
}
