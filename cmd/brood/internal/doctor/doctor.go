// Package doctor looks for what is wrong around a daemon: limits that are too low for it, files that a dead one has left, somebody
// else on its port, a unit file that does not fit. Each check is a function of a file system, /proc, /sys and /run below some root,
// and of what is known of the daemon.
package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/brooddaemon/brood/netmon"
)

// A Level says how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"   // looked at, and nothing is wrong
	Warn Level = "warn" // works, but not as well as it could, or cannot be seen
	Fail Level = "FAIL" // is wrong, or will be as soon as the daemon has work
)

// A Finding is what a check has found.
type Finding struct {
	Level Level  `json:"level"`
	Check string `json:"check"`         // which one
	What  string `json:"what"`          // as it is
	Fix   string `json:"fix,omitempty"` // what to do about it; empty: nothing
}

// String returns it as a line.
func (f Finding) String() string {
	line := fmt.Sprintf("%-4s  %s: %s", f.Level, f.Check, f.What)
	if f.Fix != "" {
		line += "  -> " + f.Fix
	}
	return line
}

// A Daemon is what is known of the one that is looked at. The zero value is none.
type Daemon struct {
	Name     string
	RunDir   string
	Program  string
	PID      int   // of the parent, 0: it does not run
	Children []int // their process ids
	Listen   []string
	Settings Settings
}

// A System is where the checks look.
type System struct {
	// Root is the directory below which /proc, /sys and /run lie; empty: the system's own.
	Root string
	// Diag asks whether the kernel answers inet_diag; nil: it does.
	Diag func() error
	// Owner tells the user that a file belongs to, -1: it cannot be seen; nil: the file itself is asked.
	Owner func(path string) int
	// UserID is who looks.
	UserID int
}

// Here is the system that this process runs on.
func Here() System {
	return System{Diag: func() error { return netmon.NewDiag().Probe() }, UserID: os.Geteuid()}
}

// path is where a file of the system is.
func (s System) path(elem ...string) string {
	return filepath.Join(append([]string{"/", s.Root}, elem...)...)
}

// proc is where a file of a process is.
func (s System) proc(pid int, elem ...string) string {
	return s.path(append([]string{"proc", strconv.Itoa(pid)}, elem...)...)
}

// read returns a file's text without the white space around it.
func (s System) read(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// number returns the number that a file holds.
func (s System) number(path string) (uint64, error) {
	text, err := s.read(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// processes are the process ids that can be seen.
func (s System) processes() []int {
	entries, _ := os.ReadDir(s.path("proc"))
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// status returns a field of /proc/PID/status; empty: it cannot be read.
func (s System) status(pid int, name string) string {
	text, _ := s.read(s.proc(pid, "status"))
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// user is the effective user id of a process, -1: it cannot be read.
func (s System) user(pid int) int {
	fields := strings.Fields(s.status(pid, "Uid"))
	if len(fields) < 2 {
		return -1
	}
	uid, err := strconv.Atoi(fields[1])
	if err != nil {
		return -1
	}
	return uid
}

// capable reports whether a process has a capability (its number) in effect.
func (s System) capable(pid, capability int) bool {
	set, err := strconv.ParseUint(s.status(pid, "CapEff"), 16, 64)
	return err == nil && set&(1<<capability) != 0
}

// name is what a process is called.
func (s System) name(pid int) string {
	name, err := s.read(s.proc(pid, "comm"))
	if err != nil {
		return "?"
	}
	return name
}

// Examine makes every check that there is something to look at for.
func Examine(s System, d Daemon) []Finding {
	checks := []func(System, Daemon) []Finding{
		openFiles, userProcesses, watches, backlog, overflows, pids, memory, groups, leftovers, ports, silence, sight, diag, changes,
	}
	var all []Finding
	for _, check := range checks {
		all = append(all, check(s, d)...)
	}
	return all
}

// one is a list of a single finding.
func one(level Level, check, fix, what string, args ...any) []Finding {
	return []Finding{{level, check, fmt.Sprintf(what, args...), fix}}
}

// unseen is the finding that something cannot be looked at. What is not there at all is none.
func unseen(check string, err error) []Finding {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return one(Warn, check, "run brood doctor as root", "cannot be seen: %v", err)
}
