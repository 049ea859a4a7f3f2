package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/scoreboard"
)

// A succession is what the loop keeps of the replacement of this parent's program by another one in its own place.
//
// exec(2) ends every thread, and with them whatever they have read but not dealt with. So the gate is closed first: what
// children send stays in their pipes and sockets, for the new program. What is left is dealt with as ever, until hooks,
// undertaker and spawner have nothing to do.
type succession struct {
	program *program    // that has passed its trial
	config  *configText // with which it has; nil: without any
	cause   string
	frozen  bool // the gate is closed
	since   time.Time
	over    chan struct{} // closed when it has come to nothing

	mu      sync.Mutex
	waiting map[*net.UnixConn]*operator // who have no answer yet
}

// quietEvery is how often it is looked whether everything has come to rest.
const quietEvery = time.Millisecond

// restTime is how long the gate may be closed and there is still something to be done.
const restTime = time.Second

// flushPatience bounds what is waited for the logs, and so for how long nobody listens to children, if a disk is slow.
const flushPatience = time.Second

// tryUpgrade puts the program that lies at the path on trial, away from the loop.
func (l *loop) tryUpgrade(cause string) {
	l.succession.cause = cause
	state, err := l.handover().write()
	if err != nil {
		l.later = append(l.later, evTried{err: err})
		return
	}
	go func() {
		defer state.Close()
		runtime.LockOSThread() // see startTrial
		defer runtime.UnlockOSThread()
		var config *configText
		prog, err := l.pinProgram(l.now(), false)
		if err == nil {
			prog.terms = l.now()
			if config, err = l.examine(prog, func() (*trial, error) { return l.startTrial(prog, state) }); err != nil {
				prog.close()
				prog = nil
			}
		}
		l.post(evTried{err, prog, config})
	}()
}

// busy reports whether hooks run, or are to, or something is being ended.
func (l *loop) busy() bool { return l.hooks.pending.Load() != 0 || l.undertaker.pending.Load() != 0 }

// freeze closes the gate when hooks have returned and those who are inside are through.
func (l *loop) freeze() {
	over := make(chan struct{})
	l.succession.over = over
	go func() {
		// A hook may take its time, and nobody listens to children while the gate is closed.
		for t := time.Tick(quietEvery); l.busy(); {
			select {
			case <-t:
			case <-over:
				return
			case <-l.done:
				return
			}
		}
		l.gate.Lock()
		l.post(evFrozen{})
	}()
}

// thaw opens the gate again, and forgets the program that was to take over.
func (l *loop) thaw() {
	s := &l.succession
	if s.over != nil {
		close(s.over)
		s.over = nil
	}
	if s.frozen {
		s.frozen = false
		l.gate.Unlock()
	}
	if s.program != nil {
		s.program.close()
		s.program = nil
	}
}

// quiet reports whether nothing is under way that would be lost.
func (l *loop) quiet() bool {
	return len(l.later) == 0 && len(l.events) == 0 && len(l.signals) == 0 && !l.watch.sweeping && !l.busy()
}

// succeed executes the new program if everything has come to rest. It returns only if that has not, or cannot be done.
func (l *loop) succeed() {
	if !l.succession.frozen {
		return
	}
	if !l.quiet() {
		if time.Since(l.succession.since) > restTime {
			l.later = append(l.later, evNotReplaced{errNoRest})
		}
		return
	}
	// From here until the new program listens to signals, one that asks for something is lost, and must not end it; one that
	// ends the daemon does: its children see that and finish their jobs. Those that have come before are in the channel when
	// Stop returns.
	signal.Ignore(wishes...)
	signal.Stop(l.signals)
	err := error(nil)
	undo := fatal(ends)
	quiet := l.quiet()
	if quiet {
		err = l.execute()
	}
	undo()
	l.hearSignals()
	if !quiet {
		return
	}
	l.service.phase = servicePhase{word: reloadingWord} // of which the end is to be told
	l.later = append(l.later, evNotReplaced{fmt.Errorf("the new program cannot be executed: %w", err)})
}

// fatal leaves it to the kernel to end this process by these signals, and returns a function that undoes this. The runtime would
// do it, too, but on a thread that the execution of another program may end before it has.
func fatal(signals []os.Signal) (undo func()) {
	// A struct sigaction is no longer on any architecture, and of zeros is the default action. The runtime's is not known here,
	// but can be given back as it is.
	type action [8]uint64
	set := func(s os.Signal, a, old *action) {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s.(unix.Signal)), uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	}
	before := make([]action, len(signals))
	for i, s := range signals {
		set(s, new(action), &before[i])
	}
	return func() {
		for i, s := range signals {
			set(s, &before[i], nil)
		}
	}
}

// execute hands over. It returns only with an error, and has undone everything then.
func (l *loop) execute() error {
	// Before anything that cannot be taken back, and again as the last step.
	ctx, cancel := context.WithTimeout(context.Background(), flushPatience)
	defer cancel()
	if err := l.flushLogs(ctx); err != nil {
		return err
	}
	h := l.handover()
	state, err := h.write()
	if err != nil {
		return err
	}
	defer state.Close()
	kept := append(h.descriptors(), int(state.Fd()))
	// No program that a hook has left a goroutine to start inherits them.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	defer func() {
		for _, fd := range kept {
			unix.CloseOnExec(fd)
		}
	}()
	for _, fd := range kept {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, os.NewSyscallError("fcntl", err))
		}
	}
	// Its main must find what this one's has found.
	if err := os.Chdir(l.startDir); err == nil && l.cfg.Dir != "" {
		defer os.Chdir(l.cfg.Dir)
	}
	claim := inherit.Claim{Role: inherit.Successor, State: int(state.Fd())}
	env := append(l.inherited[:len(l.inherited):len(l.inherited)], claim.Environ())
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if err := l.flushLogs(ctx); err != nil {
			return err
		}
		err := syscall.Exec(procFD(l.succession.program.fd), os.Args, env)
		if !errors.Is(err, syscall.ETXTBSY) || time.Since(begun) > busyText {
			return os.NewSyscallError("execve", err)
		}
	}
}

// fdOf is the number of a descriptor that package os or net holds.
func fdOf(c syscall.Conn) int {
	fd := -1
	if rc, err := c.SyscallConn(); err == nil {
		rc.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

// handover says all that the next program has to know. What the outputs hold is right only while the gate is closed.
func (l *loop) handover() *handover {
	h := &handover{
		Agreement: inherit.Spoken, At: monotonic(), Cause: l.succession.cause, LogLevel: l.level.moved, Config: l.succession.config,
		Name: l.cfg.Name, RunDir: l.cfg.RunDir, PIDFile: l.cfg.PIDFile, Program: l.program, StartDir: l.startDir,
		Slots: l.board.Slots(), Layout: scoreboard.Version, Service: handedService{l.service.Socket, l.service.watchdog},
		Board: l.board.FD(), Events: l.ring.last(), Bell: l.bell, Operators: fdOf(l.operators), Turns: l.handTurns(),
	}
	h.Pool = l.pool.save(watchmaker{time.Now(), h.At})
	for _, f := range l.pidfiles {
		h.PIDFiles = append(h.PIDFiles, handedFile{f.Path(), f.Fd()})
	}
	for _, ln := range l.listeners {
		h.Listeners = append(h.Listeners, ln.handed())
	}
	for g, prog := range l.programs {
		if !prog.left {
			h.Programs = append(h.Programs, handedProgram{prog.fd, g, prog.print, prog.speaks, prog.papers})
		}
	}
	for _, proc := range l.processes {
		c := handedChild{
			origin: origin{proc.slot, proc.pid, proc.generation, proc.suspect}, Life: proc.life, Control: fdOf(proc.control),
			Proto: proc.proto, Under: proc.under, Unsent: proc.unsent,
		}
		if proc.leaf != nil {
			c.Leaf = proc.leaf.Path()
		}
		c.Ready, c.Failed, c.Tail = proc.words.tell()
		if proc.ledger.isRead() {
			c.Ledger = proc.ledger
		}
		h.use(proc.proto)
		h.Children = append(h.Children, c)
	}
	if l.succession.frozen {
		l.outputs.Range(func(k, _ any) bool {
			o := k.(*output)
			h.Outputs = append(h.Outputs, handedOutput{fdOf(o.f), o.stream, o.from, o.cut.Rest, o.ledger})
			return true
		})
		h.Connections = l.watch.known()
	}
	l.succession.mu.Lock()
	defer l.succession.mu.Unlock()
	for c, o := range l.succession.waiting {
		h.Waiting = append(h.Waiting, handedOperator{fdOf(c), o.req})
	}
	return h
}

// nameSelf gives a parent that was executed through a descriptor the name that it would have else (proc(5),
// /proc/pid/comm). Of no consequence if it fails.
func nameSelf() { os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0) }
