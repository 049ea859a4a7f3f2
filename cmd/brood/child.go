package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/cmd/brood/internal/top"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// answerTime is how long the parent may take to say that it drains a child before the child is told by a signal.
const answerTime = time.Second

// act drains or kills a child if it is still that very one. The parent is asked to drain it, which then has its reason in log and
// events; one that does not answer is done without, and a kill is none of its business.
func (t target) act(a top.Action, c scoreboard.Child) error {
	if a == top.Kill {
		return t.signal(unix.SIGKILL, c)
	}
	if err := t.holds(c); err != nil {
		return err
	}
	r := control.Request{Verb: control.VerbDrain, PID: c.PID, Begin: true}
	reply, err := t.call(r, time.Now().Add(answerTime), io.Discard)
	if err != nil && reply.Error == "" {
		return t.signal(unix.SIGTERM, c)
	}
	return err
}

// holds returns nil if the scoreboard still shows that very child.
func (t target) holds(c scoreboard.Child) error {
	s, err := scoreboard.Read(t.board())
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(s.Children, func(now scoreboard.Child) bool {
		return now.Slot == c.Slot && now.PID == c.PID && now.Born.Equal(c.Born)
	}) {
		return fmt.Errorf("process %d is not in slot %d any more", c.PID, c.Slot)
	}
	return nil
}

// signal sends a signal to a child if it is still that very one.
//
// The scoreboard is not to be believed: each child may write to all of it, and could so have an operator who is root kill
// whom it likes. Only a process that has this very file mapped is a child of this daemon.
func (t target) signal(sig unix.Signal, c scoreboard.Child) error {
	// Opened before anything is looked at: from here on the descriptor means this process and no other.
	pidfd, err := unix.PidfdOpen(c.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("process %d has ended", c.PID)
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	if err := t.holds(c); err != nil {
		return err
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
