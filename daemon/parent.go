package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/internal/tree"
	"github.com/brooddaemon/brood/scoreboard"
)

// maxListeners is far more than anybody binds on purpose.
const maxListeners = 256

// A Parent is the daemon's parent process as its hooks see it.
type Parent struct {
	cfg       Config // as it has begun: see terms
	terms     atomic.Pointer[terms]
	asked     bool      // somebody has asked for cfg.MaxChildren
	environ   []string  // for the children
	inherited []string  // the environment that this process was started with, less the marks
	handed    *handover // by the parent whose place this one has taken; nil: there was none, or it has been dealt with
	rlimits   []rlimit  // for the children
	identity  *identity
	group     *tree.Group // in which children have groups of their own; nil: they have none
	self      pidfile.Identity
	program   string       // path of the program, not resolved: a deploy may turn a link
	owners    []uint32     // who may own it beside root
	startDir  string       // children start where the daemon did, so that main does the same in all of them
	log       *slog.Logger // for what the parent says: it makes events, too
	plainLog  *slog.Logger // for what its hooks say, and for what is no event
	childLog  *slog.Logger
	level     logLevel     // of log and plainLog
	errors    *logs.Writer // nil: Config.Logger takes the messages
	access    *logs.Writer // nil: access lines are dropped

	prints     prints
	refused    refusedLines
	unclean    bool // the daemon before this one had no time to clean up
	pidfiles   []*pidfile.File
	board      *scoreboard.Board
	ring       ring
	listeners  []*listener
	turns      turns // nil: children need nothing to take turns with
	listenDone bool
	service    service
	inside     inside
	null       int // /dev/null
	bell       int // eventfd that children write to
	undo       []func()
	deafen     func() // stops catching signals
	signals    chan os.Signal

	openKeys sync.Map // paths of keys of which the log knows that they are no secrets

	outputs sync.Map     // *output: the pipes that are read
	gate    sync.RWMutex // held for reading by who takes what a child, or an operator, has sent, until it is dealt with
	events  chan event
	done    chan struct{} // closed when the loop has ended: nobody waits for it any more
}

// Logger returns the logger whose lines go to the error log.
func (p *Parent) Logger() *slog.Logger { return p.plainLog }

// runParent is the life of the parent. asked says that somebody has asked for MaxChildren.
func runParent(ctx context.Context, cfg Config, asked bool, claim inherit.Claim, told inherit.Service, environ []string) error {
	launcher, err := takeReady(claim)
	if err == nil {
		err = inherit.CloseOnExec()
	}
	if err != nil {
		launcher.say(err)
		return err
	}
	reserveThreads(spareThreads)
	p := &Parent{
		cfg: cfg, asked: asked, environ: environ, inherited: environ, null: -1, bell: -1, service: newService(told),
		events: make(chan event, 256), done: make(chan struct{}),
		prints:  prints{ration: ration{most: printAtOnce, rate: printRate}},
		refused: refusedLines{ration: ration{most: refusedAtOnce, rate: refusedRate}},
	}
	if claim.Role == inherit.Successor {
		nameSelf()
		// The others end it as ever until it can stop in order.
		p.signals = make(chan os.Signal, maxSignals)
		signal.Notify(p.signals, wishes...)
		if p.handed, err = readHandover(claim.State); err != nil {
			return err
		}
		p.service = newService(inherit.Service{Socket: p.handed.Service.Socket, Watchdog: p.handed.Service.Watchdog})
	}
	p.inside.ctx = ctx
	p.deafen = func() {}
	defer func() { p.deafen() }()
	defer p.cleanUp()
	if err = p.begin(); err == nil {
		err = cmp.Or(newLoop(p, launcher).run(ctx), p.inside.err)
		p.lastLines()
		p.closeLedgers()
	}
	if err == nil && launcher.waiting() {
		err = errNotReady
	}
	if err != nil && p.handed != nil {
		p.giveUp(err)
	}
	p.ended(err)
	if p.cfg.Exit != nil && p.log != nil {
		p.attempt("Exit", func() error { p.cfg.Exit(err); return nil })
	}
	// Everything is gone before the launcher is told.
	p.cleanUp()
	launcher.say(err)
	return err
}

// spareThreads is how many threads the parent has ready beside those that it uses. When the system has no more to give
// (RLIMIT_NPROC, pids.max) a start of a child fails, which can be survived; but if the runtime needs a thread then and does
// not get one it ends the process.
const spareThreads = 8

// reserveThreads makes the runtime have n threads: it keeps those that have nothing to do.
func reserveThreads(n int) {
	var all sync.WaitGroup
	all.Add(n)
	for range n {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait() // each of them has a thread of its own now
		}()
	}
	all.Wait()
}

func (p *Parent) onExit(f func()) { p.undo = append(p.undo, f) }

// cleanUp gives back what begin has acquired, the last first, once.
func (p *Parent) cleanUp() {
	for len(p.undo) > 0 {
		f := p.undo[len(p.undo)-1]
		p.undo = p.undo[:len(p.undo)-1]
		f()
	}
}

// post hands an event to the loop. It waits while the loop is behind, and for nobody when the loop has ended.
func (p *Parent) post(ev event) {
	select {
	case p.events <- ev:
	case <-p.done:
	}
}
