package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/cmd/brood/internal/top"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// act drains or kills a child, by a signal, if it is still that very one.
//
// The scoreboard is not to be believed: each child may write to all of it, and could so have an operator who is root kill
// whom it likes. Only a process that has this very file mapped is a child of this daemon.
func (t target) act(a top.Action, c scoreboard.Child) error {
	sig := unix.SIGTERM
	if a == top.Kill {
		sig = unix.SIGKILL
	}
	// Opened before anything is looked at: from here on the descriptor means this process and no other.
	pidfd, err := unix.PidfdOpen(c.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("process %d has ended", c.PID)
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	s, err := scoreboard.Read(t.board())
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(s.Children, func(now scoreboard.Child) bool {
		return now.Slot == c.Slot && now.PID == c.PID && now.Born.Equal(c.Born)
	}) {
		return fmt.Errorf("process %d is not in slot %d any more", c.PID, c.Slot)
	}
	switch mapped, err := hasMapped(c.PID, t.board()); {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("process %d may not be looked into: run this as the daemon's user or as root", c.PID)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return fmt.Errorf("process %d has ended", c.PID)
	case err != nil:
		return err
	case !mapped:
		return fmt.Errorf("process %d is no child of this daemon, or is about to end: it has not mapped %s", c.PID, t.board())
	}
	if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d has ended", c.PID)
	} else if err != nil {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	return nil
}

// hasMapped reports whether a process has mapped a file.
func hasMapped(pid int, path string) (bool, error) {
	want, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return false, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		_, name, ok := strings.Cut(sc.Text(), " /")
		if !ok || filepath.Base(name) != control.BoardName {
			continue
		}
		if st, err := os.Stat("/" + name); err == nil && os.SameFile(st, want) {
			return true, nil
		}
	}
	return false, sc.Err()
}
