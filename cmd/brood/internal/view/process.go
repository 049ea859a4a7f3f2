package view

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Process is what /proc/PID/stat says of one.
type Process struct {
	State    byte   // the kernel's letter
	Parent   int    // process id
	Start    uint64 // clock ticks since the machine was booted, as in [pidfile.Identity]
	Resident uint64 // bytes
}

// ticks is in how many parts /proc divides a second, on every port of Linux that Go has.
const ticks = 100

// ProcessOf looks at a process. The error wraps fs.ErrNotExist if there is none, or ESRCH if it ends at this moment.
func ProcessOf(pid int) (Process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, err
	}
	return ParseStat(b)
}

// ParseStat reads the text of /proc/PID/stat (proc_pid_stat(5)). Field 2 is the name of the program, which may contain anything.
func ParseStat(b []byte) (Process, error) {
	const first, state, parent, start, resident = 3, 3, 4, 22, 24
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) <= resident-first || len(f[state-first]) != 1 {
		return Process{}, errors.New("not a stat file of a process")
	}
	p := Process{State: f[state-first][0]}
	var err [3]error
	p.Parent, err[0] = strconv.Atoi(string(f[parent-first]))
	p.Start, err[1] = strconv.ParseUint(string(f[start-first]), 10, 64)
	p.Resident, err[2] = strconv.ParseUint(string(f[resident-first]), 10, 64)
	p.Resident *= uint64(os.Getpagesize())
	return p, errors.Join(err[:]...)
}

// Ended reports whether nothing of the process is left but its entry.
func (p Process) Ended() bool { return p.State == 'Z' || p.State == 'X' || p.State == 'x' }

// Stopped reports whether a signal has stopped it.
func (p Process) Stopped() bool { return p.State == 'T' }

// Traced reports whether a debugger has stopped it, if only for the moment of a system call.
func (p Process) Traced() bool { return p.State == 't' }

// How far the moments in which a child was to be started and in which its process did start may be apart: the clocks have
// other steps and may have been set, and a hook of the parent or a busy machine takes its time.
const (
	early = 2 * time.Second
	late  = 15 * time.Second
)

// startedAs reports whether a process may be the child that was to be started then. As long as the parent runs, the number of a
// child that has ended is not given away before the parent has taken note; it has to be a child of it. When it is gone, who
// has the number has to have started at that time.
func (p Process) startedAs(born time.Time, running bool, parent int) bool {
	if p.Ended() {
		return false
	}
	after := bootTime().Add(time.Duration(p.Start) * (time.Second / ticks)).Sub(born)
	if running {
		return p.Parent == parent && after > -early
	}
	return after > -early && after < late
}

// bootTime is when the machine was booted, as its clock shows it today.
func bootTime() time.Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(ts.Nano()))
}
