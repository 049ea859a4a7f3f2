package daemon

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A tokenPipe is a pair of sockets with one message in it, which children take out and put back: the token.
//
// A byte in a pipe would be lost with a child that dies between taking it and saying so, and nobody could tell that from one
// that dies just before. So the message carries a descriptor, the writing end of another pipe, of which nobody but it
// has one: wherever the token is, in the sockets or in a child, that pipe is open. When it is closed the token is
// gone, whatever the moment was in which the child died, and the parent, at the other end, makes a new one. There are never two.
type tokenPipe struct {
	p    *Parent
	ends [2]int // to take from, and to put into

	mu      sync.Mutex
	witness *os.File // the reading end of the pipe; nil: all is over
}

func (p *Parent) openToken(h handedTurns) (*tokenPipe, error) {
	t := &tokenPipe{p: p}
	if len(h.Token) == 3 {
		t.ends = [2]int(h.Token)
		t.witness = os.NewFile(uintptr(h.Token[2]), "token")
	} else {
		var err error
		if t.ends, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0); err != nil {
			return nil, os.NewSyscallError("socketpair", err)
		}
		if t.witness, err = t.create(); err != nil {
			t.close()
			return nil, err
		}
	}
	go t.watch(t.witness)
	return t, nil
}

// create puts a token in. There is none.
func (t *tokenPipe) create() (witness *os.File, err error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[1])
	if err = os.NewSyscallError("fcntl", unix.SetNonblock(pipe[0], true)); err == nil {
		err = putToken(t.ends[1], pipe[1])
	}
	if err != nil {
		unix.Close(pipe[0])
		return nil, err
	}
	return os.NewFile(uintptr(pipe[0]), "token"), nil
}

// watch puts a new token in whenever one is lost. It ends with the parent.
func (t *tokenPipe) watch(witness *os.File) {
	for witness != nil {
		rc, err := witness.SyscallConn()
		if err != nil {
			return
		}
		if err := rc.Read(func(fd uintptr) bool {
			n, err := unix.Read(int(fd), make([]byte, 1))
			return n == 0 && err == nil // the end of the file
		}); err != nil {
			return
		}
		if witness, err = t.renew(); err != nil {
			t.p.log.Error("children cannot take turns any more", "err", fmt.Errorf("new token: %w", err))
		}
	}
}

// renew takes note that the token is lost; nil: there is to be no other one.
func (t *tokenPipe) renew() (*os.File, error) {
	// So that an upgrade hands over either the old state of things, which the next parent finds to be over, or the new one.
	t.p.gate.RLock()
	defer t.p.gate.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.witness == nil {
		return nil, nil
	}
	next, err := t.create()
	if err != nil {
		return nil, err
	}
	t.witness.Close()
	t.witness = next
	return next, nil
}

func (t *tokenPipe) forChild() (fds []int, number uint64, err error) {
	for _, end := range t.ends {
		fd, err := unix.FcntlInt(uintptr(end), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return nil, 0, os.NewSyscallError("fcntl", err)
		}
		fds = append(fds, fd)
	}
	return fds, 0, nil
}

func (t *tokenPipe) hand() handedTurns {
	t.mu.Lock()
	defer t.mu.Unlock()
	return handedTurns{Token: []int{t.ends[0], t.ends[1], fdOf(t.witness)}}
}

func (t *tokenPipe) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.witness != nil {
		t.witness.Close()
		t.witness = nil
	}
	unix.Close(t.ends[0])
	unix.Close(t.ends[1])
}

func putToken(to, fd int) error {
	return os.NewSyscallError("sendmsg", unix.Sendmsg(to, []byte{'t'}, unix.UnixRights(fd), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL))
}

// A childToken is the pipe's as a child sees it.
type childToken struct {
	in, out int
	held    int // the descriptor that came with the token; -1: somebody else has it
}

func (t *childToken) fd() int { return t.in }

func (t *childToken) try() bool {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(t.in, b[:], oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return false
	}
	ms, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(ms) != 1 {
		return false // without room for the descriptor the token is lost, and the parent sees that
	}
	fds, err := unix.ParseUnixRights(&ms[0])
	if err != nil || len(fds) != 1 {
		return false
	}
	t.held = fds[0]
	return true
}

func (t *childToken) give() {
	putToken(t.out, t.held) // if it fails the token is lost, see above
	unix.Close(t.held)
	t.held = -1
}

func (*childToken) want()  {}
func (*childToken) forgo() {}
