package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A place is the control group that a process is in, for one controller.
type place struct {
	root string // where the hierarchy is mounted
	path string // of the group in it
}

// placeOf finds the group of a process that a controller's file is in, of either version; ok is false if it is in none.
func (s System) placeOf(pid int, controller, file string) (place, bool) {
	text, _ := s.read(s.proc(pid, "cgroup"))
	var found []place
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		switch {
		case parts[1] == "":
			found = append(found, place{s.path("sys/fs/cgroup"), parts[2]}, place{s.path("sys/fs/cgroup/unified"), parts[2]})
		case slices.Contains(strings.Split(parts[1], ","), controller):
			found = append([]place{{s.path("sys/fs/cgroup", controller), parts[2]}}, found...)
		}
	}
	for _, p := range found {
		for _, dir := range p.upwards() {
			if _, err := s.read(filepath.Join(dir, file)); err == nil {
				return p, true
			}
		}
	}
	return place{}, false
}

// upwards are the group's directory and those above it, whose limits bind it, too.
func (p place) upwards() []string {
	var dirs []string
	for path := filepath.Join("/", p.path); ; path = filepath.Dir(path) {
		dirs = append(dirs, filepath.Join(p.root, path))
		if path == "/" {
			return dirs
		}
	}
}

// tightest finds the group, of this one and those above it, in which the least is left of a limit.
func (s System) tightest(p place, limitFile, usedFile string) (dir string, limit, used uint64) {
	left := uint64(unlimited)
	limit = unlimited
	for _, d := range p.upwards() {
		text, err := s.read(filepath.Join(d, limitFile))
		if err != nil {
			continue
		}
		l, err := quantity(text)
		if err != nil || l >= 1<<62 { // as version 1 writes no limit
			continue
		}
		u, _ := s.number(filepath.Join(d, usedFile))
		if rest := l - min(u, l); rest < left {
			dir, limit, used, left = d, l, u, rest
		}
	}
	return dir, limit, used
}

// pids compares the limit on threads of the daemon's control group with the children that there may be.
func pids(s System, d Daemon) []Finding {
	if d.PID == 0 {
		return nil
	}
	p, ok := s.placeOf(d.PID, "pids", "pids.max")
	if !ok {
		return one(OK, "pids", "", "no control group limits the number of processes")
	}
	dir, limit, used := s.tightest(p, "pids.max", "pids.current")
	missing := max(d.Settings.MaxChildren-len(d.Children), 0)
	const fix = "TasksMax=infinity in the unit, --pids-limit of the container, or lower -max-children"
	switch {
	case limit == unlimited:
		return one(OK, "pids", "", "no control group limits the number of processes")
	case used+uint64(missing) > limit:
		return one(Fail, "pids", fix, "%s has %d threads of %d, and %d children more may come", dir, used, limit, missing)
	case used+uint64(threads*missing) > limit:
		return one(Warn, "pids", fix, "%s has %d threads of %d, and %d children more, with %d threads or so, may come", dir, used, limit,
			missing, threads*missing)
	}
	return one(OK, "pids", "", "%s has %d threads of %d", dir, used, limit)
}

// memory compares the limit of the daemon's control group with what children need that are as large as those that there are.
func memory(s System, d Daemon) []Finding {
	if d.PID == 0 {
		return nil
	}
	dir, limit, used := "", uint64(unlimited), uint64(0)
	for _, of := range [][2]string{{"memory.max", "memory.current"}, {"memory.limit_in_bytes", "memory.usage_in_bytes"}} {
		if p, ok := s.placeOf(d.PID, "memory", of[0]); ok {
			dir, limit, used = s.tightest(p, of[0], of[1])
			break
		}
	}
	if limit == unlimited {
		return one(OK, "memory", "", "no control group limits it")
	}
	var largest uint64
	for _, c := range d.Children {
		largest = max(largest, s.privateMemory(c))
	}
	missing := max(d.Settings.MaxChildren-len(d.Children), 0)
	if need := used + uint64(missing)*largest; need > limit {
		return one(Warn, "memory", "more memory for the group, or lower -max-children, or -max-memory",
			"%s has %s of %s, and %d children more, as large as the largest, take %s: the kernel would kill", dir, size(used), size(limit),
			missing, size(uint64(missing)*largest))
	}
	return one(OK, "memory", "", "%s has %s of %s", dir, size(used), size(limit))
}

// privateMemory is what a process has for itself alone.
func (s System) privateMemory(pid int) uint64 {
	text, _ := s.read(s.proc(pid, "smaps_rollup"))
	var sum uint64
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "Private_Clean:" || f[0] == "Private_Dirty:") {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			sum += n << 10
		}
	}
	return sum
}

// size is a number of bytes for people.
func size(n uint64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// groups looks whether children are in control groups of their own, so that what their jobs have started ends with them in any case.
func groups(s System, d Daemon) []Finding {
	if d.PID == 0 || len(d.Children) == 0 {
		return nil
	}
	parent, ok1 := s.unified(d.PID)
	child, ok2 := s.unified(d.Children[0])
	if ok1 && ok2 && child != parent {
		return one(OK, "groups of children", "", "each child has a control group of its own")
	}
	return one(Warn, "groups of children", "Delegate=yes in the unit, on a system with cgroup v2",
		"children have no control group of their own: what a job has started with an empty environment in a session of its own outlives "+
			"a child that is killed from outside")
}

// unified is the path of a process in the hierarchy of version 2.
func (s System) unified(pid int) (string, bool) {
	text, _ := s.read(s.proc(pid, "cgroup"))
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path, true
		}
	}
	return "", false
}
