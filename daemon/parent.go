package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/internal/tree"
	"github.com/brooddaemon/brood/reload"
	"github.com/brooddaemon/brood/scoreboard"
)

// maxListeners is far more than anybody binds on purpose.
const maxListeners = 256

// A Parent is the daemon's parent process as its hooks see it.
type Parent struct {
	cfg       Config
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
	plainLog  *slog.Logger // for what its hooks say
	childLog  *slog.Logger
	errors    *logs.Writer // nil: Config.Logger takes the messages
	access    *logs.Writer // nil: access lines are dropped

	prints     prints
	unclean    bool // the daemon before this one had no time to clean up
	pidfiles   []*pidfile.File
	board      *scoreboard.Board
	ring       ring
	listeners  []*listener
	listenDone bool
	service    service
	null       int // /dev/null
	bell       int // eventfd that children write to
	undo       []func()
	deafen     func() // stops catching signals
	signals    chan os.Signal

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
		prints: prints{ration: ration{most: printAtOnce, rate: printRate}},
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
	p.deafen = func() {}
	defer func() { p.deafen() }()
	defer p.cleanUp()
	if err = p.begin(); err == nil {
		err = newLoop(p, launcher).run(ctx)
		p.lastLines()
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

// begin acquires what the daemon needs before its first child, in an order in which each step is guarded by the one
// before: the lock first.
func (p *Parent) begin() (err error) {
	if p.startDir, err = os.Getwd(); err != nil {
		p.startDir = "/"
	}
	if p.program, err = reload.Program(); err != nil {
		return fmt.Errorf("cannot find the running program: %w", err)
	}
	if h := p.handed; h != nil {
		p.startDir, p.program = h.StartDir, h.Program
	}
	if p.self, err = pidfile.Self(); err != nil {
		return err
	}
	warnings, err := p.settle()
	if err != nil {
		return err
	}
	if p.cfg.Umask >= 0 {
		unix.Umask(p.cfg.Umask)
	}
	if err := p.lock(); err != nil {
		return err
	}
	if err := p.openLogs(); err != nil {
		return err
	}
	for _, w := range warnings {
		p.log.Warn(w)
	}
	if err := tree.Subreaper(); err != nil {
		return err
	}
	p.findGroup()
	var left []string
	p.environ, left = buildEnviron(p.environ, p.cfg.Environ, os.Geteuid() == 0, p.identity)
	if len(left) > 0 {
		p.log.Info("children do not get these environment variables; Config.Environ lets them through", "names", strings.Join(left, " "))
	}
	if p.null, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0); err != nil {
		return fmt.Errorf("%s: %w", os.DevNull, err)
	}
	p.onExit(func() { unix.Close(p.null) })
	if p.handed != nil {
		p.bell = p.handed.Bell
	} else if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	p.onExit(func() { unix.Close(p.bell) })
	if p.cfg.Dir != "" {
		if err := os.Chdir(p.cfg.Dir); err != nil {
			return fmt.Errorf("directory to run in: %w", err)
		}
	}
	if err := p.createBoard(); err != nil {
		return err
	}
	return p.bindAll()
}

// settle finds out what the configuration means on this system, and whether it can be. It acquires nothing.
func (p *Parent) settle() (warnings []string, err error) {
	if p.rlimits, err = parseRlimits(p.cfg.Rlimits); err != nil {
		return nil, err
	}
	var warning string
	if p.identity, warning, err = identify(&p.cfg); err != nil {
		return nil, err
	}
	if p.owners, err = lookUpOwners(p.cfg.TrustedOwner); err != nil {
		return nil, err
	}
	correction, err := p.cfg.fit(p.identity != nil, p.asked)
	if err == nil && p.handed != nil {
		err = p.handed.check(&p.cfg)
	}
	return slices.DeleteFunc([]string{warning, correction}, func(w string) bool { return w == "" }), err
}

// lock takes the run directory's own pidfile, which keeps a second daemon out of it, and the one that was asked for.
func (p *Parent) lock() error {
	if err := control.MakeDir(p.cfg.RunDir); err != nil {
		return err
	}
	if p.handed != nil {
		return p.adoptLocks()
	}
	paths := []string{filepath.Join(p.cfg.RunDir, control.PIDName)}
	if p.cfg.PIDFile != paths[0] {
		paths = append(paths, p.cfg.PIDFile)
	}
	for _, path := range paths {
		f, err := pidfile.Take(path)
		if err != nil {
			return err
		}
		p.pidfiles = append(p.pidfiles, f)
		p.onExit(func() { f.Release() })
	}
	return nil
}

func (p *Parent) createBoard() error {
	id := scoreboard.Identity{
		Name: p.cfg.Name, PID: p.self.PID, Start: p.self.Start, BootID: p.self.BootID,
		Program: p.program, PIDFile: p.cfg.PIDFile, ErrorLog: p.cfg.ErrorLog,
	}
	path := filepath.Join(p.cfg.RunDir, control.BoardName)
	if p.handed != nil {
		return p.adoptBoard(path)
	}
	_, err := os.Lstat(path)
	p.unclean = err == nil
	p.board, err = scoreboard.Create(path, id, slotsFor(&p.cfg))
	if err != nil {
		return err
	}
	p.openRing()
	return nil
}

// openRing begins to write events. It is the last thing that is known of the scoreboard.
func (p *Parent) openRing() {
	p.ring.open(p.board)
	p.onExit(func() {
		p.ring.open(nil)
		p.board.Remove()
	})
}

// slotsFor is the number of slots: for the children that serve, for those of old generations that drain, for those that
// drain because they have served their time, and for those that start.
func slotsFor(cfg *Config) int {
	return cfg.MaxChildren + cfg.MaxDrainingChildren + min(cfg.MaxChildren, 64) + parallelStarts() + 2*cfg.Dequeue.Max
}

// listenersOf are the listeners of children of one kind.
func (p *Parent) listenersOf(k scoreboard.Kind) []*listener {
	if k == scoreboard.Dequeue {
		return nil
	}
	return p.listeners
}

// bindAll binds Config.Listen and gives AfterInit its turn.
func (p *Parent) bindAll() error {
	p.onExit(func() {
		for _, l := range p.listeners {
			l.close()
		}
	})
	for _, a := range p.cfg.Listen {
		network, address, err := splitAddress(a)
		if err != nil {
			return err
		}
		if _, err := p.Listen(network, address); err != nil {
			return err
		}
	}
	if p.cfg.AfterInit != nil {
		if err := p.afterInit(); err != nil {
			return err
		}
	}
	if p.cfg.Pool == OnDemand && len(p.listeners) == 0 {
		return errors.New("field Pool is ondemand, but there is no listener: no client could make it start a child")
	}
	p.dropListeners()
	p.listenDone = true
	p.storeListeners()
	addrs := make([]string, len(p.listeners))
	for i, l := range p.listeners {
		addrs[i] = l.addr
	}
	return p.board.SetListen(strings.Join(addrs, " "))
}

// afterInit calls the hook. One that hangs must not leave children without a parent that takes care of them.
func (p *Parent) afterInit() error {
	call := func() error { return guard("AfterInit", func() error { return p.cfg.AfterInit(p) }) }
	if p.handed == nil {
		return call()
	}
	returned := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { returned <- err }()
		err = call()
	}()
	select {
	case err := <-returned:
		return err
	case <-time.After(p.cfg.StartTimeout):
		return fmt.Errorf("AfterInit has not returned within %v", p.cfg.StartTimeout)
	}
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
