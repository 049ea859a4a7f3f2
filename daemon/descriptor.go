package daemon

import (
	"os"
	"syscall"

	"github.com/brooddaemon/brood/internal/inherit"
)

// controlFile calls f with the descriptor of what has one, unless it is closed.
func controlFile(of syscall.Conn, f func(fd int) error) error {
	rc, err := of.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

// dup duplicates the descriptor that c has.
func dup(c syscall.Conn) (int, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	return inherit.Dup(rc)
}

// dupFile makes a file of a duplicate of the descriptor that c has.
func dupFile(c syscall.Conn, name string) (*os.File, error) {
	fd, err := dup(c)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
