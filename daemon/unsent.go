package daemon

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
)

// mostUnsent is how many messages a child may leave unread beyond what the kernel keeps for it, which is some hundreds. It is more
// than there are jobs in a child whose clients can leave at the same moment.
const mostUnsent = 1 << 14

// tell sends a message to the child. It never waits: what finds no room, because the child has not read what came before it, is
// sent later and in its turn. Many clients of one child may leave at once, and a child that computes reads when its turn comes.
func (proc *process) tell(p *Parent, m control.Message) error {
	b := m.Append(nil)
	if len(proc.unsent) == 0 {
		err := proc.send(b)
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
		go proc.awaitRoom(p)
	}
	if len(proc.unsent) == mostUnsent {
		return fmt.Errorf("it has not read %d messages", mostUnsent)
	}
	proc.unsent = append(proc.unsent, b)
	return nil
}

// tellRest sends what has found no room before.
func (proc *process) tellRest(p *Parent) error {
	for len(proc.unsent) > 0 {
		err := proc.send(proc.unsent[0])
		if errors.Is(err, unix.EAGAIN) {
			go proc.awaitRoom(p)
			return nil
		}
		if err != nil {
			proc.unsent = nil
			return err
		}
		proc.unsent = proc.unsent[1:]
	}
	proc.unsent = nil
	return nil
}

// awaitRoom waits until the child has read, or will never read.
func (proc *process) awaitRoom(p *Parent) {
	if err := proc.controlRaw.Write(func(fd uintptr) bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		return n > 0
	}); err == nil {
		p.post(evRoom{proc.who})
	}
}

// send sends one message, or says that there is no room for it.
func (proc *process) send(b []byte) error {
	var err error
	cerr := proc.controlRaw.Control(func(fd uintptr) {
		err = unix.Send(int(fd), b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	return errors.Join(cerr, err)
}
