package main

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	files "github.com/brooddaemon/brood/reload" // reload is a command here
)

// How patient the watch on the sources is. An editor's save has to be at rest for settle only: whether files are whole is
// seen by building them, and a build that fails while they still change is not told but made again. What changes without
// end, such as a checkout of a large tree, is looked at after maxSettle all the same.
const (
	settle    = 25 * time.Millisecond
	maxSettle = time.Second
)

// sources are the directories from which a program is built.
type sources struct {
	modules  map[string]bool     // those with a go.mod or go.work
	packages map[string][]string // those of packages, with the patterns of their go:embed lines
}

// moduleFiles are what decides which packages there are.
var moduleFiles = []string{"go.mod", "go.sum", "go.work", "go.work.sum"}

// sourceTypes are the files that the go command builds from.
var sourceTypes = []string{".go", ".c", ".cc", ".cpp", ".cxx", ".m", ".h", ".hh", ".hpp", ".hxx", ".f", ".F", ".for", ".f90",
	".s", ".S", ".sx", ".swig", ".swigcxx", ".syso"}

// isSource reports whether the go command would look at a file of this name in a package's directory.
func isSource(name string) bool {
	return !strings.HasPrefix(name, "_") && !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, "_test.go") &&
		slices.Contains(sourceTypes, filepath.Ext(name))
}

// holds reports whether the program is built from this file, or might be if it were there.
func (s sources) holds(file string) bool {
	dir, name := filepath.Split(file)
	dir = filepath.Clean(dir)
	if s.modules[dir] && slices.Contains(moduleFiles, name) {
		return true
	}
	if _, ok := s.packages[dir]; ok && isSource(name) {
		return true
	}
	return s.embeds(file)
}

// embeds reports whether a go:embed line means this path, something above it, or something below it.
func (s sources) embeds(file string) bool {
	for dir, patterns := range s.packages {
		rel, ok := strings.CutPrefix(file, strings.TrimSuffix(dir, "/")+"/")
		if !ok {
			continue
		}
		if slices.ContainsFunc(patterns, func(p string) bool { return meets(strings.TrimPrefix(p, "all:"), rel) }) {
			return true
		}
	}
	return false
}

// meets reports whether pattern and path agree, element by element, as far as both go: a pattern that names a directory
// means all that is in it.
func meets(pattern, rel string) bool {
	ps, rs := strings.Split(pattern, "/"), strings.Split(rel, "/")
	for i := range min(len(ps), len(rs)) {
		if ok, err := path.Match(ps[i], rs[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// watched are the directories to watch: those that are there, and for one that is missing the nearest above it, in which
// it may appear.
func (s sources) watched() []string {
	dirs := map[string]bool{}
	for _, dir := range slices.Concat(slices.Collect(maps.Keys(s.modules)), slices.Collect(maps.Keys(s.packages))) {
		for !isDir(dir) && dir != "/" {
			dir = filepath.Dir(dir)
		}
		dirs[dir] = true
	}
	return slices.Sorted(maps.Keys(dirs))
}

func isDir(dir string) bool {
	st, err := os.Stat(dir)
	return err == nil && st.IsDir()
}

// set is what to watch. Package reload watches whole trees, but a package is one directory: whatever else lies in it now,
// other packages (which are watched for themselves), their tests, logs and the like, is left out. What comes later is
// looked at, for it may be the directory of a new package.
func (s sources) set(private string) files.Set {
	set := files.Set{Dirs: s.watched(), Settle: settle, MaxSettle: maxSettle, IgnorePaths: []string{private}}
	for _, dir := range set.Dirs {
		entries, _ := os.ReadDir(dir) // one that is gone by now has nothing to leave out
		for _, e := range entries {
			if file := filepath.Join(dir, e.Name()); !s.holds(file) {
				set.IgnorePaths = append(set.IgnorePaths, file)
			}
		}
	}
	return set
}

// movedSince reports whether a file has been changed, or has come or gone, since then.
func (s sources) movedSince(then time.Time) bool {
	moved := func(file string) bool {
		var st unix.Stat_t
		return unix.Stat(file, &st) == nil && time.Unix(0, st.Ctim.Nano()).After(then)
	}
	for _, dir := range s.watched() {
		if moved(dir) {
			return true
		}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if file := filepath.Join(dir, e.Name()); s.holds(file) && moved(file) {
				return true
			}
		}
	}
	return false
}

// touchedBy reports whether a change is one of the sources. Of many files not all are named.
func (s sources) touchedBy(c files.Change) bool {
	return c.More > 0 || slices.ContainsFunc(c.Paths, s.holds)
}

// with returns the sources of both.
func (s sources) with(o sources) sources {
	both := sources{maps.Clone(s.modules), maps.Clone(s.packages)}
	maps.Copy(both.modules, o.modules)
	for dir, patterns := range o.packages {
		all := append(slices.Clone(patterns), both.packages[dir]...)
		slices.Sort(all)
		both.packages[dir] = slices.Compact(all)
	}
	return both
}

func (s sources) equal(o sources) bool {
	return maps.Equal(s.modules, o.modules) && maps.EqualFunc(s.packages, o.packages, slices.Equal)
}
