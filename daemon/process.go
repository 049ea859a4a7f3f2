package daemon

import (
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/tree"
	"github.com/brooddaemon/brood/netmon"
)

// lastWords is how long what a dead child said and wrote last is waited for.
const lastWords = 200 * time.Millisecond

// A process is a child as the parent's kernel knows it. The loop owns it; the goroutines that read from it only post
// events.
type process struct {
	who
	pid        int
	generation uint64
	suspect    bool   // the ones before it in its place have failed
	proto      uint64 // the agreement that it was started under
	under      under
	pidfd      *os.File
	control    *os.File
	controlRaw syscall.RawConn
	unsent     [][]byte       // messages that the child had no room for, oldest first
	output     sync.WaitGroup // ends with the child's output
	leaf       *tree.Leaf     // its cgroup; nil: it has none of its own
	said       chan struct{}  // closed when the child has said its last on the control socket
	words      *words
	ledger     *ledger            // its jobs, for the access log
	status     syscall.WaitStatus // of a child that has been reaped
	inside     *Child             // runs in this very process: see Config.NoFork
}

// under is what the parent has to know of the terms of a child, beyond the life of its generation.
type under struct {
	Concurrency int       `json:"concurrency,omitempty"`
	HalfClose   HalfClose `json:"half_close,omitempty"`
}

func (t *terms) under() under { return under{t.cfg.Concurrency, t.cfg.HalfClose} }

// attend starts to listen to a child that the loop has been told of.
func (proc *process) attend(p *Parent) {
	go proc.readControl(p)
	if proc.inside != nil {
		go proc.live(p)
		return
	}
	go proc.awaitExit(p)
}

// readControl turns what the child says into events.
func (proc *process) readControl(p *Parent) {
	defer close(proc.said)
	buf := make([]byte, control.MaxMessage+1)
	for {
		n, err := 0, error(nil)
		rerr := proc.controlRaw.Read(func(fd uintptr) bool {
			p.gate.RLock()
			defer p.gate.RUnlock()
			if n, err = unix.Read(int(fd), buf); n > 0 {
				proc.heard(p, buf[:n])
			}
			return err != unix.EAGAIN
		})
		// Reset: the child has ended without having read everything; what it said before is still to come (unix(7)).
		if rerr == nil && (err == unix.ECONNRESET || err == unix.EINTR) {
			continue
		}
		if rerr != nil || err != nil || n <= 0 {
			return
		}
	}
}

// heard makes an event of one message.
func (proc *process) heard(p *Parent, b []byte) {
	m, err := control.Parse(b)
	switch {
	case errors.Is(err, control.ErrUnknown):
	case err != nil:
		if p.mayPrint() {
			p.log.Error("child sent nonsense", "slot", proc.slot, "pid", proc.pid, "err", err)
		}
	case m.Kind == control.Failed:
		proc.words.fail(m.Text)
	case m.Kind == control.Refused:
		p.logRefused(proc, m)
	default:
		if ev := proc.event(m); ev != nil {
			p.post(ev)
		}
	}
}

func (proc *process) event(m control.Message) event {
	switch m.Kind {
	case control.Ready:
		return evReady{proc.who}
	case control.Gone:
		return evGone{proc.who, disconnectOf(m)}
	case control.Overtime:
		return evOvertime{proc.who, m.Serial}
	case control.Spent:
		return evSpent{proc.who, m.Text}
	case control.Proven:
		return evProven{proc.who}
	case control.Paused:
		return evPaused{proc.who, m.Leaving}
	case control.Alive:
		return evAlive{proc.who}
	case control.Parting:
		return evAnswered{proc.who, m.Leaving}
	case control.Settled:
		return evSettled{proc.who, m.Serial, m.Leaving}
	}
	return nil
}

func disconnectOf(m control.Message) Disconnect {
	d := Disconnect{Job: m.Serial, Proto: "tcp", Local: m.Local, Foreign: m.Foreign, Proxy: m.Proxy, How: netmon.How(m.How)}
	d.Path, d.Text, _ = strings.Cut(m.Text, "\x00")
	if d.Path != "" || !m.Foreign.IsValid() && !m.Proxy.IsValid() {
		d.Proto = "unix"
	}
	return d
}

// awaitExit posts the child's end. The child stays a zombie until the loop has taken note: nobody else can get its
// process id as long as the loop may send it a signal.
func (proc *process) awaitExit(p *Parent) {
	rc, err := proc.pidfd.SyscallConn()
	if err == nil {
		err = rc.Read(func(fd uintptr) bool {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, _ := unix.Poll(poll, 0)
			return n > 0
		})
	}
	if err != nil {
		p.log.Error("cannot wait for child", "slot", proc.slot, "pid", proc.pid, "err", err)
		return
	}
	// A debugger that holds the dead child would hold up the loop in wait4(2); this waits for him, and leaves the zombie.
	cerr := rc.Control(func(fd uintptr) {
		for unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	})
	if cerr != nil {
		p.log.Error("cannot wait for child", "slot", proc.slot, "pid", proc.pid, "err", cerr)
	}
	proc.lastWords()
	p.post(evExited{who: proc.who})
}

// reap ends what the child has left of its process group, takes its exit status and closes what the parent had of it.
// The child has exited.
func (proc *process) reap() (status string) {
	if proc.inside != nil {
		return describe(proc.status)
	}
	proc.signal(unix.SIGKILL)
	ws := &proc.status
	for {
		if _, err := syscall.Wait4(proc.pid, ws, 0, nil); err != syscall.EINTR {
			break
		}
	}
	proc.pidfd.Close()
	return describe(*ws)
}

// lastWords waits for what a dead child said last on its control socket, so that its end is not told before the reason,
// and, if it never became ready, for what it wrote. Programs that it left behind may hold both open: then only a moment.
func (proc *process) lastWords() {
	late := time.NewTimer(lastWords)
	defer late.Stop()
	select {
	case <-proc.said:
	case <-late.C:
		return
	}
	if !proc.words.wanted() {
		return
	}
	written := make(chan struct{})
	go func() {
		proc.output.Wait()
		close(written)
	}()
	select {
	case <-written:
	case <-late.C:
	}
}

// signalSelf sends a signal to the child alone. It cannot hit anybody else, also when the child has been reaped.
func (proc *process) signalSelf(s unix.Signal) error {
	rc, err := proc.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	cerr := rc.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), s, nil, 0) })
	return errors.Join(cerr, err)
}

// signal sends a signal to the child's process group.
func (proc *process) signal(s unix.Signal) { unix.Kill(-proc.pid, s) }
