package daemon

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

// busyText is how long a program that is still being written (ETXTBSY) is tried again.
const busyText = 2 * time.Second

// A spawner starts children, one after the other, on a goroutine of its own: executing a program may wait for a disk.
type spawner struct {
	p    *Parent
	jobs chan spawnJob
}

type spawnJob struct {
	actSpawn
	program *program
}

func (s *spawner) run() {
	for {
		select {
		case j := <-s.jobs:
			proc, err := s.start(j)
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
		if err := s.p.attempt("BeforeSpawn", func() error { return hook(s.p, j.slot, j.generation) }); err != nil {
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
	}
	for _, l := range s.p.listeners {
		files = append(files, uintptr(l.fd))
	}
	pidfd := -1
	attr := &syscall.ProcAttr{
		Dir: s.p.startDir, Env: s.p.childEnviron(j.who, j.generation), Files: files,
		// A process group of its own, so that the child's programs can be ended with it.
		Sys: &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd},
	}
	pid, err := forkExec(j.program.path(), attr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.p.program, err)
	}
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Kill(pid, unix.SIGKILL)
		unix.Close(pidfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	proc := &process{
		who: j.who, pid: pid, generation: j.generation,
		pidfd: os.NewFile(uintptr(pidfd), "pidfd"), control: ctl, words: &words{},
		said: make(chan struct{}),
	}
	if proc.controlRaw, err = ctl.SyscallConn(); err != nil {
		return nil, err
	}
	proc.output.Add(3)
	go proc.readOutput(s.p, reads[0], "stdout")
	go proc.readOutput(s.p, reads[1], "stderr")
	go proc.readAccess(s.p, reads[2])
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

// childEnviron is the environment of a child: that of the daemon without any marks, and the child's claim.
func (p *Parent) childEnviron(w who, generation uint64) []string {
	claim := inherit.Claim{Role: inherit.Child, Slot: w.slot, Generation: generation, Listeners: len(p.listeners)}
	env := p.environ
	if os.Getenv("GOMAXPROCS") == "" {
		claim.Procs = true
		env = append(env[:len(env):len(env)], "GOMAXPROCS="+strconv.Itoa(p.cfg.procs()))
	}
	return append(env[:len(env):len(env)], claim.Environ())
}

// parallelStarts is how many children may be starting at once. More only make each of them slower.
func parallelStarts() int { return 2 * processors() }
