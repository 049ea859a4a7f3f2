package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/scoreboard"
)

// A target is a daemon, by its run directory.
type target struct{ dir string }

// find turns what the user named into a target.
func find(name string) (target, error) {
	if pid, err := strconv.Atoi(name); err == nil {
		return findPID(pid)
	}
	if strings.ContainsRune(name, os.PathSeparator) || name == "." || name == ".." {
		dir, err := filepath.Abs(name)
		return target{dir}, err
	}
	if err := control.CheckName(name); err != nil {
		return target{}, err
	}
	t := target{control.RunDir(name)}
	if _, err := os.Stat(t.board()); err != nil {
		if _, err := os.Stat(filepath.Join(name, control.BoardName)); err == nil {
			t.dir, err = filepath.Abs(name)
			return t, err
		}
		return t, fmt.Errorf("no daemon %q: there is no %s", name, t.board())
	}
	return t, nil
}

// findPID finds the run directory of a parent, which holds its scoreboard open, or of a child, which has it mapped.
func findPID(pid int) (target, error) {
	proc := fmt.Sprintf("/proc/%d", pid)
	fds, err := os.ReadDir(proc + "/fd")
	if errors.Is(err, fs.ErrNotExist) {
		return target{}, fmt.Errorf("no process %d", pid)
	}
	if err != nil {
		return target{}, err
	}
	for _, fd := range fds {
		if path, err := os.Readlink(filepath.Join(proc, "fd", fd.Name())); err == nil && isBoard(path) {
			return target{filepath.Dir(path)}, nil
		}
	}
	f, err := os.Open(proc + "/maps")
	if err != nil {
		return target{}, err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if _, path, ok := strings.Cut(sc.Text(), " /"); ok && isBoard("/"+path) {
			return target{filepath.Dir("/" + path)}, nil
		}
	}
	return target{}, fmt.Errorf("process %d belongs to no daemon of this toolkit", pid)
}

func isBoard(path string) bool {
	if filepath.Base(path) != control.BoardName {
		return false
	}
	_, err := scoreboard.Read(path)
	return err == nil
}

func (t target) board() string { return filepath.Join(t.dir, control.BoardName) }

// parent returns who the daemon's parent is, if that very process is alive and holds the lock: what the file says could
// be written by anybody who may write to the directory.
func (t target) parent() (pidfile.Identity, error) {
	path := filepath.Join(t.dir, control.PIDName)
	id, err := pidfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return id, fmt.Errorf("not running: there is no %s", path)
	}
	if err != nil {
		return id, err
	}
	if held, err := pidfile.Held(path); err != nil || !held {
		return id, errors.Join(fmt.Errorf("not running: nobody holds the lock on %s", path), err)
	}
	if !view.Alive(id) {
		return id, fmt.Errorf("not running: its parent, process %d, is gone", id.PID)
	}
	return id, nil
}

// noBoard says what it means that the scoreboard could not be read.
func (t target) noBoard(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("not running: there is no %s", t.board())
	}
	return err
}
