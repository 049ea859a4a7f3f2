package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/internal/rules"
	"github.com/brooddaemon/brood/internal/tree"
	"github.com/brooddaemon/brood/scoreboard"
)

var (
	// ErrClientGone is the cause with which the context of a job ends whose client has left.
	ErrClientGone = errors.New("the client has left")
	// ErrStopping is the cause with which the context of a job ends when the daemon stops at once.
	ErrStopping = errors.New("the daemon is stopping")
	// ErrEvicted is wrapped in the cause with which the context of a job ends that has run for too long in a child that
	// drains: for longer than DrainTimeout, or in the oldest of more old generations or children than may drain.
	ErrEvicted = errors.New("evicted")
	// ErrDraining is returned by Child.Do in a child that takes no more work, and is the cause, or wrapped in the cause,
	// with which the main loop's context ends.
	ErrDraining = errors.New("the child is draining")
	// ErrParentGone is the cause with which a main loop's context ends when the parent has died.
	ErrParentGone = errors.New("the parent has died")
)

// A Child is this process as its main loop sees it. All its methods may be called on any goroutine.
type Child struct {
	cfg       Config
	claim     inherit.Claim
	papers    papers
	inside    bool // the parent's own process: see Config.NoFork
	board     *scoreboard.Slot
	control   *os.File
	bell      int
	access    *accessPipe
	tellsJobs bool          // the parent wants to know of each job, for the access log
	entries   atomic.Uint64 // that have begun
	listeners []*childListener
	turns     turnTaker
	acceptor  *acceptor
	eye       *eye
	tokens    chan struct{} // one for each job that may run
	claims    atomic.Int32  // jobs without a connection that wait for a token
	accepts   atomic.Int32  // goroutines that accept, or wait until they may
	accepted  atomic.Bool   // the main loop lives on connections
	rules     rules.Set     // who may connect
	hosts     *hosts
	refused   refusals
	cgroup    string // of this child alone; empty: it has none
	ready     sync.Once
	pausing   sync.Mutex

	mu         sync.Mutex
	settled    *sync.Cond // mu; a revocation has been cleared, or the parent has died
	idle       *sync.Cond // mu; a job has ended
	isReady    bool       // and the parent is told so
	jobs       jobList
	finishing  int // jobs, including those that are just being ended, and clients whose names are looked up
	looking    int // for whose names
	serial     uint64
	done       int    // jobs
	enough     int    // jobs after which the child is replaced, 0: any number
	shown      uint64 // the job that the record describes
	paused     bool
	weighed    time.Duration // when its memory was looked at, of the monotonic clock
	weighing   bool          // it will be again
	heavy      bool          // and was too much
	orphaned   bool
	evicted    *eviction // of all jobs
	complained time.Time
	drained    bool
	draining   chan struct{} // closed when no more work is taken
	loopCtx    context.Context
	cancel     context.CancelCauseFunc
}

// Exit statuses of a child, beside 2 of a panic.
const (
	exitFine   = 0
	exitFailed = 1
)

// runChild is the life of a child. It does not return.
func runChild(ctx context.Context, cfg Config, claim inherit.Claim) {
	c, err := newChild(ctx, cfg, claim)
	if err != nil {
		// Without its descriptors the child has no parent to tell.
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailed)
	}
	if err := c.init(); err != nil {
		c.tell(control.Message{Kind: control.Failed, Text: err.Error()})
		os.Exit(exitFailed)
	}
	os.Exit(c.run())
}

func newChild(ctx context.Context, cfg Config, claim inherit.Claim) (*Child, error) {
	if err := claim.Check(); err != nil {
		return nil, err
	}
	if err := inherit.CloseOnExec(); err != nil {
		return nil, err
	}
	known, err := readPapers(claim.Papers)
	if err != nil {
		return nil, err
	}
	unix.Close(claim.Papers)
	c := makeChild(ctx, cfg, claim)
	c.papers, c.bell, c.control = known, inherit.BellFD, os.NewFile(inherit.ControlFD, "control")
	if err := tree.Subreaper(); err != nil {
		return nil, err
	}
	if err := c.awaitBegin(); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(inherit.AccessFD, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	c.access = &accessPipe{f: os.NewFile(inherit.AccessFD, "access log")}
	return c, nil
}

func makeChild(ctx context.Context, cfg Config, claim inherit.Claim) *Child {
	c := &Child{cfg: cfg, claim: claim, draining: make(chan struct{}), hosts: newHosts()}
	c.loopCtx, c.cancel = context.WithCancelCause(ctx)
	c.settled, c.idle = sync.NewCond(&c.mu), sync.NewCond(&c.mu)
	return c
}

// awaitBegin waits until the parent has set this process's limits and tells which cgroup it has.
func (c *Child) awaitBegin() error {
	buf := make([]byte, control.MaxMessage+1)
	n, err := c.control.Read(buf)
	if err != nil {
		return ErrParentGone
	}
	m, err := control.Parse(buf[:n])
	if err != nil || m.Kind != control.Begin {
		return fmt.Errorf("the parent does not speak this program's language: %q", buf[:min(n, 1)])
	}
	c.cgroup, c.tellsJobs = m.Text, m.Serial >= recordVersion
	c.turns, err = c.taker(m)
	return err
}

// init sets the child up until it can call the main loop.
func (c *Child) init() (err error) {
	if err := c.cfg.complete(); err != nil {
		return err
	}
	limits, err := parseRlimits(c.cfg.Rlimits)
	if err == nil {
		err = limit(0, limits)
	}
	if err != nil {
		return err
	}
	nameProcess(c.cfg.Name, c.claim)
	// The terminal's signals are for the parent, which then tells its children. They are caught and not ignored, because
	// programs that a job starts would inherit that they are ignored.
	// The first Notify of a process takes a fifth of the time until it is ready, for which nobody need wait.
	go c.catchSignals()
	go new(tree.Reaper).Run(nil)
	var listeners []int
	for i := range c.claim.Listeners {
		listeners = append(listeners, inherit.ListenFD+i)
	}
	if err := c.equip(inherit.BoardFD, listeners); err != nil {
		return err
	}
	unix.Close(inherit.BoardFD)
	if c.cfg.Dir != "" {
		if err := os.Chdir(c.cfg.Dir); err != nil {
			return fmt.Errorf("directory to run in: %w", err)
		}
	}
	return c.childInit()
}

// equip gives the child what it works with, and begins to listen to its parent.
func (c *Child) equip(board int, listeners []int) (err error) {
	if c.rules, err = c.cfg.accessRules(); err != nil {
		return err
	}
	if c.board, err = scoreboard.Attach(board, c.claim.Slot); err != nil {
		return err
	}
	if n := c.cfg.MaxRequests; n > 0 {
		c.enough = n - rand.IntN(n/10+1)
	}
	c.tokens = make(chan struct{}, c.cfg.Concurrency)
	if c.eye, err = newEye(c); err != nil {
		return fmt.Errorf("cannot watch connections: %w", err)
	}
	for i, fd := range listeners {
		var known listening // a parent of another build may tell less
		if i < len(c.papers.Listen) {
			known = c.papers.Listen[i]
		}
		l, err := adoptListener(fd, known)
		if err != nil {
			return err
		}
		if err := l.certify(c.papers.Files); err != nil {
			return err
		}
		c.listeners = append(c.listeners, l)
	}
	c.papers.Files = nil
	if c.acceptor, err = c.newAcceptor(c.listeners, c.turns); err != nil {
		return err
	}
	go c.listen()
	go c.eye.run()
	return nil
}

func (c *Child) childInit() error {
	if c.cfg.ChildInit != nil {
		return guard("ChildInit", func() error { return c.cfg.ChildInit(c) })
	}
	return nil
}

// nameProcess gives the process a name for ps(1): executed through a descriptor it would bear that number. The
// kernel keeps 15 bytes (proc(5), /proc/pid/comm).
func nameProcess(name string, claim inherit.Claim) {
	suffix := fmt.Sprintf(" [%d g%d]", claim.Slot, claim.Generation)
	const commLen = 15
	if n := commLen - len(suffix); n > 0 && len(name) > n {
		name = name[:n]
	}
	// Of no consequence if it fails.
	os.WriteFile("/proc/self/comm", []byte(name+suffix), 0)
}

// run calls the main loop and returns the process's exit status when it has returned and the last job has ended.
func (c *Child) run() int {
	status := make(chan int, 1)
	go func() {
		st := exitFailed
		// Also when the main loop calls runtime.Goexit. A panic ends the process with its trace and status 2.
		defer func() { status <- st }()
		loop := c.cfg.MainLoop
		if c.Dequeue() {
			loop = c.cfg.Dequeue.MainLoop
			c.Ready() // what it waits for is its own affair
		}
		if err := loop(c.loopCtx, c); err != nil && !c.isDraining() {
			fmt.Fprintf(os.Stderr, "main loop failed: %v\n", err)
			return
		}
		st = exitFine
	}()
	st := <-status
	c.drain(ErrDraining)
	c.mu.Lock()
	for c.finishing > 0 {
		c.idle.Wait()
	}
	orphaned := c.orphaned
	c.mu.Unlock()
	if c.cfg.ChildFinish != nil {
		if err := guard("ChildFinish", func() error { c.cfg.ChildFinish(c); return nil }); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if orphaned {
		c.vanish()
	}
	c.sweep()
	return st
}

func (c *Child) kind() scoreboard.Kind { return scoreboard.Kind(c.claim.Kind) }

// tell sends a message to the parent. An error means that the parent has died, which is noticed elsewhere.
func (c *Child) tell(m control.Message) { c.control.Write(m.Append(nil)) }

// Slot returns the child's place on the scoreboard.
func (c *Child) Slot() int { return c.claim.Slot }

// Generation returns the version of the code that this child runs, counted from 1.
func (c *Child) Generation() uint64 { return c.claim.Generation }

// Dequeue reports whether this child is one of those of Config.Dequeue: it has a queue of its own and accepts nothing.
func (c *Child) Dequeue() bool { return c.kind() == scoreboard.Dequeue }

// Concurrency returns the number of jobs that this child runs at once.
func (c *Child) Concurrency() int { return c.cfg.Concurrency }

// LingerTimeout returns how long idle connections are kept while the child drains.
func (c *Child) LingerTimeout() time.Duration { return c.cfg.LingerTimeout }
