package daemon

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rlimits are the names of resources as getrlimit(2) and limits.conf(5) have them.
var rlimits = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
	"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME,
	"sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// An rlimit is one limit for each child.
type rlimit struct {
	name     string
	resource int
	unix.Rlimit
}

// parseRlimits reads limits written as NAME=VALUE or NAME=SOFT:HARD. Unless it is named, there is one more: no core
// files, which hold a client's secrets and fill disks.
func parseRlimits(lines []string) ([]rlimit, error) {
	var all []rlimit
	for _, line := range append([]string{"core=0"}, lines...) {
		name, value, _ := strings.Cut(line, "=")
		l := rlimit{name: name}
		var known bool
		if l.resource, known = rlimits[name]; !known {
			return nil, fmt.Errorf("field Rlimits has %q: want NAME=VALUE or NAME=SOFT:HARD, with a name out of %s",
				line, strings.Join(slices.Sorted(maps.Keys(rlimits)), ", "))
		}
		soft, hard, two := strings.Cut(value, ":")
		if !two {
			hard = soft
		}
		var err error
		if l.Cur, err = parseAmount(soft); err == nil {
			l.Max, err = parseAmount(hard)
		}
		if err != nil {
			return nil, fmt.Errorf("field Rlimits has %q: %w", line, err)
		}
		if l.Cur > l.Max {
			return nil, fmt.Errorf("field Rlimits has %q: the soft limit is above the hard one", line)
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(l.resource, &now); err == nil && l.Max > now.Max && os.Geteuid() != 0 {
			return nil, fmt.Errorf("field Rlimits has %q: only root can raise a hard limit, here %d", line, now.Max)
		}
		all = slices.DeleteFunc(all, func(old rlimit) bool { return old.resource == l.resource })
		all = append(all, l)
	}
	return all, nil
}

// openInChild is more than a child holds open beside its listeners and the connections of its jobs.
const openInChild = 32

// fitConnections sees whether a child may have as many connections as Concurrency promises. Nobody has more than one job
// at once who has not asked for it, so the error says what to do. A daemon without Listen has other jobs, for all that is
// known here.
func (cfg *Config) fitConnections(limits []rlimit) error {
	var files unix.Rlimit
	if cfg.Concurrency == 1 || len(cfg.Listen) == 0 || unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil {
		return nil
	}
	// A Go program raises its soft limit to the hard one by itself, and children inherit that.
	most, of := files.Max, "the hard limit on open files (ulimit -Hn)"
	for _, l := range limits {
		if l.resource == unix.RLIMIT_NOFILE {
			most, of = l.Cur, "the limit on open files in Rlimits (nofile)"
		}
	}
	own := uint64(openInChild + len(cfg.Listen))
	need := own + uint64(cfg.Concurrency)
	if need <= most {
		return nil
	}
	return fmt.Errorf("field Concurrency is %d, but %s, %d, is enough for %d connections in each child: raise it to %d "+
		"(as root with nofile=%[5]d in Rlimits) or lower Concurrency", cfg.Concurrency, of, most, max(most, own)-own, need)
}

// parseAmount reads a number of things, bytes or seconds: 4096, 64K, 512M, 2G (powers of 1024) or unlimited.
func parseAmount(s string) (uint64, error) {
	if s == "unlimited" {
		return unix.RLIM_INFINITY, nil
	}
	digits, shift := s, 0
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]&^0x20); i >= 0 {
			digits, shift = s[:n-1], 10*(i+1)
		}
	}
	v, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || v > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is no amount: want a number, with K, M, G or T behind it if you like, or unlimited", s)
	}
	return v << shift, nil
}

// limit sets limits of a process, 0: this one.
//
// The parent does so for a child that waits to be told to begin, because a child that is not root any more cannot raise
// anything, and then the child itself, because a root that lacks CAP_SYS_RESOURCE, as in many containers, may not touch
// other users' processes (prlimit(2)). The last one to try has to succeed.
func limit(pid int, limits []rlimit) error {
	for _, l := range limits {
		if err := unix.Prlimit(pid, l.resource, &l.Rlimit, nil); err != nil {
			return fmt.Errorf("cannot set limit %s of children: %w", l.name, os.NewSyscallError("prlimit", err))
		}
	}
	return nil
}
