package doctor

import (
	"encoding/binary"
	"os"
	"strings"
	"syscall"
)

// littleEndian says how the kernel writes addresses.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// capPtrace is the capability to look into any process (capabilities(7)).
const capPtrace = 19

// sight looks what may take the parent's eye from it: to see clients who leave it looks into its children, by pidfd_getfd(2) and
// /proc/PID/fd. A child of another user is one it may look into only with CAP_SYS_PTRACE.
func sight(s System, d Daemon) []Finding {
	if d.PID == 0 {
		return nil
	}
	const check = "the parent's eye"
	const instead = "; clients who leave are seen by the children alone, and not by one that is stopped"
	able := s.capable(d.PID, capPtrace)
	var found []Finding
	warn := func(fix, what string, args ...any) {
		found = append(found, one(Warn, check, fix, what+instead, args...)...)
	}
	switch scope, _ := s.read(s.path("proc/sys/kernel/yama/ptrace_scope")); {
	case scope == "3":
		warn("sysctl kernel.yama.ptrace_scope=1 at boot: it cannot be lowered later", "kernel.yama.ptrace_scope is 3: nobody may look into a process")
	case scope == "2" && !able:
		warn("sysctl kernel.yama.ptrace_scope=1, or give the parent CAP_SYS_PTRACE",
			"kernel.yama.ptrace_scope is 2, and the parent has no CAP_SYS_PTRACE")
	}
	if option := s.hiding(d.PID); option != "" && !able && s.user(d.PID) != 0 {
		warn("mount /proc without hidepid, or with gid= of a group that the parent is in", "/proc is mounted with %s", option)
	}
	for _, c := range d.Children {
		switch owner := s.owner(s.proc(c, "fd")); {
		case able || owner < 0:
			continue
		case owner != s.user(c):
			warn("children should not change their user themselves: -user does it", "child %d is not dumpable", c)
		case s.user(c) != s.user(d.PID):
			warn("give the parent CAP_SYS_PTRACE", "child %d is another user's, %d", c, s.user(c))
		default:
			continue
		}
		break // one speaks for all
	}
	if len(found) == 0 {
		return one(OK, check, "", "nothing keeps the parent from looking into its children")
	}
	return found
}

// hiding returns the option by which /proc hides the processes of others, empty: it does not.
func (s System) hiding(pid int) string {
	text, _ := s.read(s.proc(pid, "mountinfo"))
	for line := range strings.Lines(text) {
		before, after, _ := strings.Cut(line, " - ")
		if f := strings.Fields(before); len(f) < 6 || f[4] != "/proc" {
			continue
		}
		for _, option := range strings.FieldsFunc(after, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
			if value, ok := strings.CutPrefix(option, "hidepid="); ok && value != "0" && value != "off" {
				return option
			}
		}
	}
	return ""
}

// owner is the user that a file belongs to, -1: it cannot be seen.
func (s System) owner(path string) int {
	if s.Owner != nil {
		return s.Owner(path)
	}
	st, err := os.Stat(path)
	if err != nil {
		return -1
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(sys.Uid)
	}
	return -1
}
