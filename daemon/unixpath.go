package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unixMode lets the daemon's group connect.
const unixMode = 0o660

// removeStale removes the path of a Unix socket on which nobody listens any more. The error says what else is there.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is no socket: remove it, or choose another path", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if errors.Is(err, unix.ECONNREFUSED) {
		return os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("somebody may listen on %s: %w", path, err)
	}
	defer c.Close()
	return fmt.Errorf("%s listens on %s", listenerOf(c.(*net.UnixConn)), path)
}

// listenerOf names the process that listens where a connection leads to.
func listenerOf(c *net.UnixConn) string {
	var cred *unix.Ucred
	err := controlFile(c, func(fd int) (err error) {
		cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil || cred.Pid <= 0 {
		return "somebody"
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cred.Pid))
	if err != nil {
		return fmt.Sprintf("what process %d has left", cred.Pid)
	}
	return fmt.Sprintf("process %d (%s)", cred.Pid, strings.TrimSpace(string(name)))
}

// claimPath makes a Unix socket's path absolute and notes which file it is.
func (l *listener) claimPath() (err error) {
	if l.path, err = filepath.Abs(l.path); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(l.path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: l.path, Err: err}
	}
	l.dev, l.ino = st.Dev, st.Ino
	return nil
}

// letIn gives the path of a Unix socket the owner and the mode that its entry says. Whatever has come to lie at the path since it
// was bound is left alone.
func (l *listener) letIn(children *identity) error {
	wrong := func(what string, err error) error {
		return fmt.Errorf("listen %q: cannot change the %s of %s: %w", l.spec, what, l.path, err)
	}
	uid, gid, err := l.spec.owner()
	if err != nil {
		return err
	}
	fd, err := unix.Open(l.path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrong("mode", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return wrong("mode", err)
	}
	if st.Dev != l.dev || st.Ino != l.ino {
		return wrong("mode", errors.New("it is another file by now"))
	}
	if uid < 0 {
		uid = os.Geteuid()
	}
	switch {
	case gid >= 0:
	case children != nil:
		gid = int(children.gid) // as if a child had bound it
	case l.kept:
		gid = newGroup(filepath.Dir(l.path)) // an owner may have been given to it before
	default:
		gid = int(st.Gid)
	}
	give := func(uid, gid int) error {
		err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: root can, with CAP_CHOWN", err)
		}
		return err
	}
	// The group before it may come in, and the owner last: only he, or who has CAP_FOWNER, may set the mode.
	if uint32(gid) != st.Gid {
		if err := give(-1, gid); err != nil {
			return wrong("group", err)
		}
	}
	mode := l.spec.Mode
	if mode == 0 {
		mode = unixMode
	}
	if uint32(mode) != st.Mode&0o7777 {
		err := os.Chmod(procFD(fd), mode)
		if self := os.Geteuid(); errors.Is(err, unix.EPERM) && st.Uid != uint32(self) && give(self, -1) == nil {
			st.Uid = uint32(self)
			err = os.Chmod(procFD(fd), mode)
		}
		if err != nil {
			return wrong("mode", err)
		}
	}
	if uint32(uid) != st.Uid {
		if err := give(uid, -1); err != nil {
			return wrong("owner", err)
		}
	}
	return nil
}

// newGroup is the group of a file that this process makes in a directory.
func newGroup(dir string) int {
	if st, err := os.Stat(dir); err == nil && st.Mode()&fs.ModeSetgid != 0 {
		return int(st.Sys().(*syscall.Stat_t).Gid)
	}
	return os.Getegid()
}

// owner returns whose the path of an entry's sockets is to be; -1: it does not say.
func (s listenSpec) owner() (uid, gid int, err error) {
	uid, gid = -1, -1
	if s.Owner != "" {
		uid, err = lookUp("user", s.Owner, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
	}
	if s.Group != "" && err == nil {
		gid, err = lookUp("group", s.Group, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
	}
	if err != nil {
		return -1, -1, fmt.Errorf("listen %q: %w", s, err)
	}
	return uid, gid, nil
}

// lookUp makes a number of a name, or of a number that need not be known to the system.
func lookUp(kind, name string, find func(string) (string, error)) (int, error) {
	id, err := find(name)
	if err != nil {
		id = name
	}
	n, nerr := number(id)
	if nerr != nil {
		return -1, fmt.Errorf("owner: %w; want the name or the number of a %s", cmp.Or(err, nerr), kind)
	}
	return int(n), nil
}

// close closes the parent's descriptor and removes the path, if the name still leads to this very socket.
func (l *listener) close() {
	unix.Close(l.fd)
	if l.path == "" {
		return
	}
	var st unix.Stat_t
	if unix.Lstat(l.path, &st) == nil && st.Dev == l.dev && st.Ino == l.ino {
		os.Remove(l.path)
	}
}
