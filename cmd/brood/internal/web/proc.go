package web

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// A process is what everybody may know of one.
type process struct {
	state    byte // the kernel's letter
	parent   int
	start    uint64
	resident uint64 // bytes
}

var pageSize = uint64(os.Getpagesize())

// lookProcess returns what the kernel tells about a process; ok is false if there is none.
func lookProcess(pid int) (p process, ok bool) {
	if pid <= 0 {
		return process{}, false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	return parseStat(b)
}

// parseStat reads fields 3, 4, 22 and 24. Field 2, in parentheses, may hold anything.
func parseStat(b []byte) (p process, ok bool) {
	const first, last = 3, 24
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) <= last-first || len(f[0]) != 1 {
		return process{}, false
	}
	p.state = f[0][0]
	var err [3]error
	p.parent, err[0] = strconv.Atoi(string(f[4-first]))
	p.start, err[1] = strconv.ParseUint(string(f[22-first]), 10, 64)
	p.resident, err[2] = strconv.ParseUint(string(f[last-first]), 10, 64)
	p.resident *= pageSize
	return p, err == [3]error{}
}

// ended reports whether nothing of the process is left but its entry.
func (p process) ended() bool { return p.state == 'Z' || p.state == 'X' }

// stopped reports whether a signal or a debugger has stopped it.
func (p process) stopped() bool { return p.state == 'T' || p.state == 't' }
