package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/reload"
)

// programFD is the least descriptor of a pinned program. A child's start moves descriptors to low numbers before it
// executes the program, which must not be among those overwritten.
const programFD = 512

// A program is the file that a generation's children are started from. It is opened once, and children execute what
// was opened: a crash respawns the same bytes, whatever lies at the path by then.
type program struct {
	fd    int    // O_PATH
	print string // what it is, for people and for comparison
	users int    // children being started from it
	left  bool   // no more will be
}

// openProgram pins the program that now lies at path.
func openProgram(path string) (*program, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, programFD)
	unix.Close(fd)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &program{fd: high}
	var st unix.Stat_t
	if err := unix.Fstat(high, &st); err != nil {
		p.close()
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		p.close()
		return nil, &fs.PathError{Op: "execute", Path: path, Err: unix.EACCES}
	}
	print, err := reload.FingerprintOf(p.path())
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

// path leads to the pinned file in this process and in one that it is about to turn into a child.
func (p *program) path() string { return "/proc/self/fd/" + strconv.Itoa(p.fd) }

func (p *program) close() { unix.Close(p.fd) }
