package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/reload"
)

// A program is the file that a generation's children are started from. It is opened once, and children execute what
// was opened: a crash respawns the same bytes, whatever lies at the path by then.
type program struct {
	fd     int            // O_PATH
	print  string         // what it is, for people and for comparison
	users  int            // children being started from it
	left   bool           // no more will be
	speaks inherit.Speaks // what it has said on trial, or, of the first one, what this program speaks
	papers int            // descriptor of what its children are to know; -1: none
	terms  *terms         // under which they are started
}

// pinEvery is how often a program that is not whole yet is looked at.
const pinEvery = 50 * time.Millisecond

// errWriting is what keeps a program from being pinned while somebody writes it.
var errWriting = errors.New("it is still being written")

// pinProgram pins the program that now lies at the daemon's path, under these terms, once it is whole: one that somebody has open for writing,
// or that is replaced at this moment, is waited for, up to StartTimeout and as long as the daemon lives. As root one that
// others could have changed is refused; at the start, where it runs already, the log is told.
func (p *Parent) pinProgram(t *terms, start bool) (*program, error) {
	limit := time.NewTimer(t.cfg.StartTimeout)
	defer limit.Stop()
	waited, warned := false, false
	trust := func(fd int) error {
		err := p.trust(t, fd)
		if !start || err == nil || errors.Is(err, reload.ErrMoving) {
			return err
		}
		if !warned {
			warned = true
			p.log.Warn("others than root can change the program: a reload will be refused", "err", err)
		}
		return nil
	}
	for {
		prog, err := openProgram(p.program, trust)
		if !errors.Is(err, errWriting) && !errors.Is(err, reload.ErrMoving) {
			return prog, err
		}
		if !waited {
			waited = true
			p.log.Info("waiting for the program to be whole", "err", err)
		}
		select {
		case <-time.After(pinEvery):
		case <-limit.C:
			return nil, fmt.Errorf("%w, for more than %v", err, t.cfg.StartTimeout)
		case <-p.done:
			return nil, err
		}
	}
}

// trust fails if this is root and others could have changed the program that has been opened.
func (p *Parent) trust(t *terms, fd int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := reload.Trusted(p.program, fd, t.owners...); err != nil {
		return fmt.Errorf("root executes only what root, or -trusted-owner, alone can change: %w", err)
	}
	return nil
}

// openProgram pins the program that now lies at path. It fails with errWriting or reload.ErrMoving if it is not at rest;
// trust sees what has been opened before anything else is done with it.
func openProgram(path string, trust func(fd int) error) (*program, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	p := &program{fd: fd, speaks: inherit.Spoken, papers: -1}
	if err = trust(fd); err == nil {
		p.print, err = p.fingerprint(path)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// fingerprint says what the pinned program is. It fails unless that is a whole program and still the one at path.
func (p *program) fingerprint(path string) (string, error) {
	var before, after, there unix.Stat_t
	if err := unix.Fstat(p.fd, &before); err != nil {
		return "", os.NewSyscallError("fstat", err)
	}
	regular := before.Mode&unix.S_IFMT == unix.S_IFREG
	if regular && reload.Writing(procFD(p.fd)) { // also before it becomes executable, as the last thing
		return "", fmt.Errorf("%s: %w", path, errWriting)
	}
	if !regular || before.Mode&0o111 == 0 {
		return "", &fs.PathError{Op: "execute", Path: path, Err: unix.EACCES}
	}
	print := fmt.Sprintf("%x-%x-%x-%x", before.Dev, before.Ino, before.Size, before.Mtim.Nano())
	switch content, err := reload.FingerprintOf(procFD(p.fd)); {
	case err == nil:
		print = content.String()
	case !errors.Is(err, unix.EACCES): // may be executed but not read
		return "", err
	}
	err := errors.Join(unix.Fstat(p.fd, &after), unix.Stat(path, &there))
	if err != nil || after.Dev != there.Dev || after.Ino != there.Ino || after.Mtim != before.Mtim || after.Ctim != before.Ctim {
		return "", fmt.Errorf("%s: %w", path, reload.ErrMoving)
	}
	return print, nil
}

// procFD is a path that leads to what a descriptor of the process that uses it refers to.
func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func (p *program) close() {
	unix.Close(p.fd)
	if p.papers >= 0 {
		unix.Close(p.papers)
	}
}

// lookUpOwners returns the user of Config.TrustedOwner, a name or a number, if one is named.
func lookUpOwners(owner string) ([]uint32, error) {
	if owner == "" {
		return nil, nil
	}
	id := owner
	if u, err := user.Lookup(owner); err == nil {
		id = u.Uid
	}
	uid, err := number(id)
	if err != nil {
		return nil, fmt.Errorf("field TrustedOwner is %q: want the name or the number of a user", owner)
	}
	return []uint32{uid}, nil
}
