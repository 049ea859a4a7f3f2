package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/inherit"
)

// inside is what the parent keeps of a main loop that runs in its own process, with Config.NoFork. It is a child as any other to
// the pool and to the scoreboard: it speaks with the loop over a socket, and has the same eye, ledger and slot. But there is one
// only, ever, and nobody can kill it.
type inside struct {
	ctx  context.Context // of Run
	born sync.Once
	err  error // why the main loop has failed
}

var (
	errNoFork  = errors.New("it was started with -no-fork: there are no children")
	errWontEnd = errors.New("the main loop has not ended in time")
)

// completeNoFork turns off what would need another process.
func (cfg *Config) completeNoFork() error {
	if !cfg.NoFork {
		return nil
	}
	for _, f := range []struct {
		name string
		set  bool
		out  string
	}{
		{"Daemonize", cfg.Daemonize, "start it in the background by other means"},
		{"User or Group", cfg.User != "" || cfg.Group != "", "start it as that user"},
		{"Dequeue.Max", cfg.Dequeue.Max != 0, "set it to 0"},
	} {
		if f.set {
			return fmt.Errorf("field NoFork does not go with %s: %s", f.name, f.out)
		}
	}
	cfg.Pool, cfg.Prefork, cfg.MaxChildren, cfg.MinSpare, cfg.MaxSpare = Static, 1, 1, 1, 0
	cfg.Serialize, cfg.LockFile = SerializeExclusive, ""
	cfg.MaxRequests, cfg.MaxAge, cfg.MaxMemory, cfg.HungAfter = 0, 0, 0, 0
	return nil
}

// withoutChildren refuses what would need another process.
func (l *loop) withoutChildren(ev event) event {
	var what, cause string
	var reply func(error)
	switch ev := ev.(type) {
	case evReload:
		what, cause, reply = "reload", ev.cause, ev.reply
	case evUpgrade:
		what, cause, reply = "upgrade", ev.cause, ev.reply
	case evScale:
		what, cause, reply = "scale", ev.cause, ev.reply
	case evDrain:
		what, cause, reply = "drain", ev.cause, ev.reply
	default:
		return ev
	}
	l.log.Warn("cannot "+what, "cause", cause, "err", errNoFork)
	if reply != nil {
		reply(errNoFork)
	}
	return evTick{}
}

// startInside makes a child of this very process, once: what a main loop has changed for itself cannot be undone for another one.
func (p *Parent) startInside(j spawnJob) (proc *process, err error) {
	err = errNoFork
	p.inside.born.Do(func() { proc, err = p.bearInside(j) })
	if err == errNoFork {
		p.post(evStop{stopDrain, "the main loop has ended"})
	}
	return proc, err
}

func (p *Parent) bearInside(j spawnJob) (_ *process, err error) {
	known, err := readPapers(j.program.papers)
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cfg := p.cfg
	loop := cfg.MainLoop
	cfg.MainLoop = func(ctx context.Context, c *Child) error {
		err := loop(ctx, c)
		if !c.isDraining() {
			p.inside.err = err
			p.post(evStop{stopDrain, "the main loop has ended"})
			<-c.draining
		}
		return err
	}
	c := makeChild(p.inside.ctx, cfg, inherit.Claim{
		Role: inherit.Child, Slot: j.slot, Generation: j.generation, Listeners: len(p.listeners), Kind: uint64(j.kind),
	})
	c.inside, c.papers, c.bell, c.control, c.access = true, known, p.bell, theirs, &accessPipe{f: write}
	c.tellsJobs = p.recordsWanted() >= recordVersion
	proc := &process{
		who: j.who, pid: os.Getpid(), generation: j.generation, proto: inherit.Spoken.Newest, under: p.now().under(), control: ours, words: &words{},
		said: make(chan struct{}), inside: c,
	}
	if proc.controlRaw, err = ours.SyscallConn(); err != nil {
		return nil, err
	}
	o := p.listenTo(read, access, origin{j.slot, proc.pid, j.generation, false}, nil, handedOutput{})
	proc.ledger = o.ledger
	proc.output.Go(func() { o.read(p) })
	return proc, nil
}

// live is the life of a child in this very process.
func (proc *process) live(p *Parent) {
	c := proc.inside
	status := exitFailed
	if err := c.settleInside(p); err != nil {
		c.tell(control.Message{Kind: control.Failed, Text: err.Error()})
	} else {
		status = c.run()
	}
	c.control.Close()
	c.access.f.Close()
	<-proc.said
	proc.output.Wait()
	proc.status = syscall.WaitStatus(status << 8) // as wait(2) has it
	p.post(evExited{who: proc.who})
}

// settleInside is init for a child in this very process.
func (c *Child) settleInside(p *Parent) error {
	var fds []int
	for _, l := range p.listeners {
		fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		fds = append(fds, fd)
	}
	if err := c.equip(p.board.FD(), fds); err != nil {
		return err
	}
	return c.childInit()
}
