package doctor

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// What a daemon of this toolkit needs. For children package daemon reckons the same at the start.
const (
	filesForParent = 128 // that it holds open itself
	filesPerChild  = 6   // that it holds open for each child
	filesForChild  = 32  // that a child holds open beside its connections
	threads        = 8   // of a child, as Linux counts processes
)

// unlimited stands for no limit.
const unlimited = math.MaxUint64

// limit returns a soft limit of a process.
func (s System) limit(pid int, name string) (uint64, error) {
	text, err := s.read(s.proc(pid, "limits"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok && strings.TrimSpace(rest) != "" {
			return quantity(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("%s has no line %q", s.proc(pid, "limits"), name)
}

// quantity reads a number for which there may be no limit.
func quantity(text string) (uint64, error) {
	if text == "unlimited" || text == "max" {
		return unlimited, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// openFiles compares the limits on open files with what parent and child need.
func openFiles(s System, d Daemon) []Finding {
	if d.PID == 0 {
		return nil
	}
	need := uint64(filesForParent + filesPerChild*d.Settings.MaxChildren)
	found := s.files(d.PID, "the parent", need, fmt.Sprintf("%d children", d.Settings.MaxChildren),
		"raise LimitNOFILE= or ulimit -n, or lower -max-children")
	if len(d.Children) > 0 {
		need = uint64(filesForChild + d.Settings.Concurrency + len(d.Listen))
		found = append(found, s.files(d.Children[0], "a child", need, fmt.Sprintf("a concurrency of %d", d.Settings.Concurrency),
			"raise LimitNOFILE= or ulimit -n, or -rlimits nofile=N, or lower -concurrency")...)
	}
	return found
}

func (s System) files(pid int, who string, need uint64, what, fix string) []Finding {
	limit, err := s.limit(pid, "Max open files")
	switch {
	case err != nil:
		return unseen("open files", err)
	case limit < need:
		return one(Fail, "open files", fix, "%s, process %d, may have %d, and needs %d for %s", who, pid, limit, need, what)
	}
	return one(OK, "open files", "", "%s may have %s, and needs %d for %s", who, shown(limit), need, what)
}

// shown is a quantity for people.
func shown(n uint64) string {
	if n == unlimited {
		return "any number"
	}
	return strconv.FormatUint(n, 10)
}

// userProcesses compares the limit on processes of one user with the children that there may be. Root has none.
func userProcesses(s System, d Daemon) []Finding {
	if d.PID == 0 {
		return nil
	}
	pid := d.PID
	if len(d.Children) > 0 {
		pid = d.Children[0]
	}
	uid := s.user(pid)
	if uid == 0 {
		return one(OK, "processes", "", "children are root, whom no limit binds")
	}
	limit, err := s.limit(pid, "Max processes")
	if err != nil {
		return unseen("processes", err)
	}
	ours := map[int]bool{d.PID: true}
	for _, c := range d.Children {
		ours[c] = true
	}
	used := 0
	for _, p := range s.processes() {
		if n, err := strconv.Atoi(s.status(p, "Threads")); err == nil && !ours[p] && s.user(p) == uid {
			used += n
		}
	}
	need := uint64(used + threads*d.Settings.MaxChildren)
	const fix = "raise LimitNPROC= or ulimit -u, or lower -max-children"
	switch {
	case limit < uint64(used+d.Settings.MaxChildren):
		return one(Fail, "processes", fix, "user %d may have %d threads; others have %d, and there may be %d children", uid, limit, used, d.Settings.MaxChildren)
	case limit < need:
		return one(Warn, "processes", fix, "user %d may have %d threads; others have %d, and %d children have %d or so", uid, limit, used,
			d.Settings.MaxChildren, threads*d.Settings.MaxChildren)
	}
	return one(OK, "processes", "", "user %d may have %s threads", uid, shown(limit))
}
