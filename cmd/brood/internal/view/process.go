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

// A process is what /proc/PID/stat says of one.
type process struct {
	state    byte
	parent   int
	start    time.Duration // since the machine was booted
	resident uint64        // bytes
}

// ticks is in how many parts /proc divides a second, on every port of Linux that Go has.
const ticks = 100

func processOf(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	return parseStat(b)
}

// parseStat reads proc_pid_stat(5). The second field is the name of the program, which may contain anything.
func parseStat(b []byte) (process, error) {
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 22 || len(f[0]) != 1 {
		return process{}, errors.New("not a stat file of a process")
	}
	parent, err1 := strconv.Atoi(string(f[1]))
	start, err2 := strconv.ParseInt(string(f[19]), 10, 64)
	pages, err3 := strconv.ParseUint(string(f[21]), 10, 64)
	return process{f[0][0], parent, time.Duration(start) * (time.Second / ticks), pages * uint64(os.Getpagesize())}, errors.Join(err1, err2, err3)
}

// How far the moments in which a child was to be started and in which its process did start may be apart: the clocks have
// other steps and may have been set, and a hook of the parent or a busy machine takes its time.
const (
	early = 2 * time.Second
	late  = 15 * time.Second
)

// startedAs reports whether a process may be the child that was to be started then. As long as the parent runs, the number of a
// child that has ended is not given away before the parent has taken note; it has to be a child of it. When it is gone, who
// has the number has to have started at that time.
func (p process) startedAs(born time.Time, running bool, parent int) bool {
	if p.state == 'Z' || p.state == 'X' {
		return false
	}
	after := bootTime().Add(p.start).Sub(born)
	if running {
		return p.parent == parent && after > -early
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
