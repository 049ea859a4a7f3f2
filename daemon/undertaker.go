package daemon

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/tree"
)

// sweepDelay is how long what ended children have left behind is gathered. One look at the process table does for all of them, and
// a reload lets them go one after the other.
const sweepDelay = 50 * time.Millisecond

// buryTime is how long the end of the daemon waits for what its children have left behind to be ended.
const buryTime = 3 * time.Second

// An undertaker ends children with everything they have started, and what children that ended by themselves have left
// behind, on a goroutine of its own: it has to look for them in the process table.
type undertaker struct {
	p       *Parent
	kills   chan *process
	graves  chan *process  // who has been reaped
	leaves  sync.WaitGroup // cgroups that are being removed
	pending atomic.Int64   // kills, graves and cgroups that are not done with
	ended   chan struct{}
}

func newUndertaker(p *Parent, slots int) *undertaker {
	// A slot has one process at a time, and each is killed once and reaped once; the loop does not wait.
	return &undertaker{
		p: p, kills: make(chan *process, slots), graves: make(chan *process, 4*slots), ended: make(chan struct{}),
	}
}

// kill ends a child with its whole tree.
func (u *undertaker) kill(proc *process) {
	u.pending.Add(1)
	select {
	case u.kills <- proc:
	default:
		u.pending.Add(-1)
		proc.signal(unix.SIGKILL) // it is far behind; what is left the sweep finds
	}
}

// bury ends what a child has left behind that has been reaped.
func (u *undertaker) bury(proc *process) {
	u.pending.Add(1)
	select {
	case u.graves <- proc:
	default:
		u.pending.Add(-1)
		u.p.log.Warn("what a child has left behind is not looked for: too many have ended at once", "slot", proc.slot, "pid", proc.pid)
	}
}

// run works until the daemon has ended and nothing is left to do.
func (u *undertaker) run() {
	defer close(u.ended)
	var dead []*process
	var due <-chan time.Time
	for {
		select {
		case proc := <-u.kills:
			u.killAll(append(waiting(u.kills), proc))
		case proc := <-u.graves:
			if dead = append(dead, proc); due == nil {
				due = time.After(sweepDelay)
			}
		case <-due:
			// A kill that was asked for goes first: it may be that of one of these, whose cgroup is about to be closed.
			u.killAll(waiting(u.kills))
			u.sweep(append(waiting(u.graves), dead...))
			dead, due = nil, nil
		case <-u.p.done:
			u.sweep(append(waiting(u.graves), dead...))
			u.leaves.Wait()
			return
		}
	}
}

// finish waits until everything is done that was asked for, for a while. The daemon has ended.
func (u *undertaker) finish() {
	select {
	case <-u.ended:
	case <-time.After(buryTime):
		u.p.log.Warn("not all that children have left behind has ended", "within", buryTime)
	}
}

// waiting takes all that is in a queue: one look at the process table does for all of them.
func waiting(queue <-chan *process) (procs []*process) {
	for {
		select {
		case proc := <-queue:
			procs = append(procs, proc)
		default:
			return procs
		}
	}
}

// killAll ends children.
func (u *undertaker) killAll(procs []*process) {
	defer u.pending.Add(-int64(len(procs)))
	var roots []tree.Root
	for _, proc := range procs {
		if proc.leaf != nil {
			err := proc.leaf.Kill()
			proc.signalSelf(unix.SIGKILL) // it may have moved to another group
			if err == nil {
				continue
			}
			u.p.log.Warn("cannot kill a child's cgroup", "slot", proc.slot, "pid", proc.pid, "err", err)
		}
		roots = append(roots, tree.Root{PID: proc.pid, Signal: proc.signalSelf})
	}
	if len(roots) == 0 {
		return
	}
	if err := tree.Kill(roots...); err != nil {
		u.p.log.Warn("something that children have started may have been left behind", "err", err)
	}
}

// sweep ends what children have left behind.
func (u *undertaker) sweep(procs []*process) {
	defer u.pending.Add(-int64(len(procs)))
	var marks []string
	for _, proc := range procs {
		marks = append(marks, u.p.mark(proc.who))
		if proc.leaf == nil {
			continue
		}
		// It waits until the last of its processes has ended.
		u.pending.Add(1)
		u.leaves.Go(func() {
			defer u.pending.Add(-1)
			if err := proc.leaf.Remove(); err != nil {
				u.p.log.Warn("cgroup of a child stays", "slot", proc.slot, "pid", proc.pid, "err", err)
			}
			proc.leaf.Close()
		})
	}
	if len(marks) == 0 {
		return
	}
	if err := tree.Strays(marks...); err != nil {
		u.p.log.Warn("what children have left behind may live on", "err", err)
	}
}

// reapStrangers reaps those who have become this process's children although it has not started them.
func (p *Parent) reapStrangers() {
	r := tree.Reaper{Reaped: func(pid int, status syscall.WaitStatus) {
		p.log.Debug("stranger reaped", "pid", pid, "status", describe(status))
	}}
	r.Run(p.done)
}

// describe says in words how a process has ended.
func describe(ws syscall.WaitStatus) string {
	if !ws.Signaled() {
		return fmt.Sprintf("exit status %d", ws.ExitStatus())
	}
	s := "signal: " + ws.Signal().String()
	if ws.CoreDump() {
		s += " (core dumped)"
	}
	return s
}

// leafPrefix begins the names of the children's cgroups.
const leafPrefix = "brood-"

// findGroup finds out whether children can have cgroups of their own.
func (p *Parent) findGroup() {
	g, err := tree.Delegated()
	if err == nil && g != nil {
		err = g.Clean(func(name string) bool {
			pid, _, ok := strings.Cut(strings.TrimPrefix(name, leafPrefix), "-")
			n, nerr := strconv.Atoi(pid)
			// One of a parent that lives may be about to get its child.
			return ok && strings.HasPrefix(name, leafPrefix) && nerr == nil && unix.Kill(n, 0) == unix.ESRCH
		})
	}
	if err != nil {
		p.log.Warn("children get no cgroups of their own", "err", err)
		return
	}
	p.group = g
}

// leaf makes the cgroup of a child; nil if there are none.
func (p *Parent) leaf(w who) *tree.Leaf {
	if p.group == nil {
		return nil
	}
	l, err := p.group.Leaf(fmt.Sprintf("%s%d-%d-%d", leafPrefix, p.self.PID, w.slot, w.life))
	if err != nil {
		p.log.Warn("a child gets no cgroup of its own", "slot", w.slot, "err", err)
		return nil
	}
	return l
}
