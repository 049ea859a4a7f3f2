package daemon

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/inherit"
)

// busyText is how long a program that is still being written (ETXTBSY) is tried again.
const busyText = 2 * time.Second

// A spawner starts children, one after the other, on a goroutine of its own: executing a program may wait for a disk.
type spawner struct {
	p    *Parent
	jobs chan spawnJob
}

// A spawnJob starts a child, or something else that is to be started as children are.
type spawnJob struct {
	actSpawn
	program *program
	trial   func(broken error)
}

func (s *spawner) run() {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// What the first thread gives up looks as if the process had (proc(5), /proc/pid/status). So this goroutine keeps
		// it, and another one gets another.
		defer runtime.UnlockOSThread()
		go s.run()
		<-s.p.done
		return
	}
	// Given up and not returned: the thread is of no use to anybody else, and ends with its goroutine.
	broken := s.p.prepareThread()
	for {
		select {
		case j := <-s.jobs:
			if j.trial != nil {
				j.trial(broken)
				continue
			}
			var proc *process
			err := broken
			switch {
			case s.p.cfg.NoFork:
				proc, err = s.p.startInside(j)
			case err == nil:
				proc, err = s.start(j)
			}
			if err != nil {
				s.p.post(evSpawnFailed{j.who, err})
				continue
			}
			s.p.post(evSpawned{j.who, proc.pid, proc})
			proc.attend(s.p)
		case <-s.p.done:
			return
		}
	}
}

// start executes the program with the descriptors of a child. All of them are bare numbers: os/exec would put the
// shared listeners into blocking mode.
func (s *spawner) start(j spawnJob) (_ *process, err error) {
	if hook := s.p.cfg.BeforeSpawn; hook != nil {
		// Not on this thread, which has given up what a program that the hook runs may need.
		done := make(chan error, 1)
		go func() {
			err := errGoexit
			defer func() { done <- err }()
			err = s.p.attempt("BeforeSpawn", func() error { return hook(s.p, j.slot, j.generation) })
		}()
		if err := <-done; err != nil {
			return nil, err
		}
	}
	var fds []int // to close when the child has its own
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := pair[0], pair[1]
	fds = append(fds, theirs)
	ctl := os.NewFile(uintptr(ours), "control")
	var reads [3]*os.File // stdout, stderr, access
	var writes [3]uintptr
	defer func() {
		if err != nil {
			ctl.Close()
			for _, f := range reads {
				if f != nil {
					f.Close()
				}
			}
		}
	}()
	for i := range reads {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return nil, os.NewSyscallError("pipe2", err)
		}
		fds = append(fds, pipe[1])
		writes[i] = uintptr(pipe[1])
		// Only the reading end is without blocking: programs do not expect it of their standard output.
		if err := unix.SetNonblock(pipe[0], true); err != nil {
			unix.Close(pipe[0])
			return nil, os.NewSyscallError("fcntl", err)
		}
		reads[i] = os.NewFile(uintptr(pipe[0]), "output")
	}
	files := []uintptr{
		uintptr(s.p.null), writes[0], writes[1],
		inherit.ControlFD: uintptr(theirs), inherit.BoardFD: uintptr(s.p.board.FD()),
		inherit.BellFD: uintptr(s.p.bell), inherit.AccessFD: writes[2],
		inherit.PapersFD: uintptr(j.program.papers),
	}
	for _, l := range s.p.listenersOf(j.kind) {
		files = append(files, uintptr(l.fd))
	}
	// The program is among them: at its own number another one could be moved over it before it is executed.
	program := procFD(len(files))
	files = append(files, uintptr(j.program.fd))
	turns, mode, number, err := s.p.turnsFor(j.kind)
	if err != nil {
		return nil, err
	}
	for _, fd := range turns {
		fds, files = append(fds, fd), append(files, uintptr(fd))
	}
	pidfd := -1
	attr := &syscall.ProcAttr{
		Dir: s.p.startDir, Env: s.p.childEnviron(j), Files: files,
		// A process group of its own, so that the child's programs can be ended with it.
		Sys: &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd, Credential: s.p.identity.credential()},
	}
	if s.p.identity != nil {
		attr.Dir = "" // this thread's
	}
	leaf := s.p.leaf(j.who)
	if leaf != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, leaf.FD()
	}
	defer func() {
		if err != nil && leaf != nil {
			leaf.Remove()
			leaf.Close()
		}
	}()
	pid, err := forkExec(program, attr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.p.program, err)
	}
	err = os.NewSyscallError("fcntl", unix.SetNonblock(pidfd, true))
	proc := &process{
		who: j.who, pid: pid, generation: j.generation, suspect: j.suspect, proto: j.program.speaks.With(inherit.Spoken), under: j.program.terms.under(),
		pidfd: os.NewFile(uintptr(pidfd), "pidfd"), control: ctl, words: &words{},
		said: make(chan struct{}), leaf: leaf,
	}
	if err == nil {
		proc.controlRaw, err = ctl.SyscallConn()
	}
	if err == nil {
		// Of no consequence if it fails: the child does it again.
		limit(pid, j.program.terms.rlimits)
		m := control.Message{Kind: control.Begin, Serial: s.p.recordsWanted(), How: mode, Inode: number}
		if leaf != nil {
			m.Text = leaf.Path()
		}
		err = proc.send(m.Append(nil))
	}
	if err != nil {
		unix.Kill(pid, unix.SIGKILL)
		proc.reap()
		return nil, err
	}
	for i, stream := range []string{"stdout", "stderr", access} {
		o := s.p.listenTo(reads[i], stream, origin{j.slot, pid, j.generation, j.suspect}, proc.words, handedOutput{})
		if stream == access {
			proc.ledger = o.ledger
		}
		proc.output.Go(func() { o.read(s.p) })
	}
	return proc, nil
}

func forkExec(path string, attr *syscall.ProcAttr) (int, error) {
	for begun := time.Now(); ; {
		pid, err := syscall.ForkExec(path, os.Args, attr)
		if !errors.Is(err, syscall.ETXTBSY) || time.Since(begun) > busyText {
			return pid, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// parallelStarts is how many children may be starting at once. More only make each of them slower.
func parallelStarts() int { return 2 * processors() }
