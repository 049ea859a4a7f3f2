package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/reload"
)

// A program is the file that a generation's children are started from. It is opened once, and children execute what
// was opened: a crash respawns the same bytes, whatever lies at the path by then.
type program struct {
	fd     int    // O_PATH
	print  string // what it is, for people and for comparison
	users  int    // children being started from it
	speaks inherit.Speaks
	left   bool // no more will be
}

// openProgram pins the program that now lies at path.
func openProgram(path string) (*program, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	p := &program{fd: fd, speaks: inherit.Spoken}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		p.close()
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		p.close()
		return nil, &fs.PathError{Op: "execute", Path: path, Err: unix.EACCES}
	}
	print, err := reload.FingerprintOf(procFD(fd))
	switch {
	case err == nil:
		p.print = print.String()
	case errors.Is(err, unix.EACCES): // may be executed but not read
		p.print = fmt.Sprintf("%x-%x-%x-%x", st.Dev, st.Ino, st.Size, st.Mtim.Nano())
	default:
		p.close()
		return nil, err
	}
	return p, nil
}

// procFD is a path that leads to what a descriptor of the process that uses it refers to.
func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func (p *program) close() { unix.Close(p.fd) }

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

// pinProgram is for now.
func (p *Parent) pinProgram(start bool) (*program, error) { return openProgram(p.program) }
