package reload

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// found is one file as a look saw it, before anything of it was read.
type found struct {
	stamp
	real  string // its path without links
	dir   string // the real directory whose events tell of it
	named bool   // one of Files, not of a tree
}

// snapshot is what one look saw: all files by the paths that the Set gave them.
type snapshot struct {
	files map[string]found
	blind []string // paths at and below which nothing could be seen; what was there is taken to be unchanged
}

// unseen says whether a path that the snapshot lacks may still exist.
func (s *snapshot) unseen(path string) bool {
	for _, b := range s.blind {
		if path == b || strings.HasPrefix(path, strings.TrimSuffix(b, "/")+"/") {
			return true
		}
	}
	return false
}

// scanner makes one snapshot, and has every directory watched before it reads it, so that no file falls between.
type scanner struct {
	ctx  context.Context
	plan *plan
	note *notifier
	now  time.Time
	snap snapshot
}

func scan(ctx context.Context, p *plan, n *notifier, now time.Time) *snapshot {
	s := &scanner{ctx: ctx, plan: p, note: n, now: now, snap: snapshot{files: make(map[string]found)}}
	n.begin()
	for _, root := range p.dirs {
		s.root(root)
	}
	for _, path := range p.files {
		s.file(path) // after the trees: a file that is also named is judged by the rules for named ones
	}
	n.end()
	return &s.snap
}

// file looks at a named file through all links.
func (s *scanner) file(path string) {
	real, err := s.resolve(path)
	if err != nil {
		s.missing(path)
		return
	}
	dir, name := filepath.Dir(real), filepath.Base(real)
	s.note.name(hint{dir, name}, s.now)
	st, err := lstamp(real)
	if err != nil || !st.regular() {
		s.missing(path)
		return
	}
	s.snap.files[path] = found{stamp: st, real: real, dir: dir, named: true}
}

func (s *scanner) root(root string) {
	real, err := s.resolve(root)
	if err != nil {
		s.missing(root)
		return
	}
	s.tree(real, root)
}

func (s *scanner) resolve(path string) (real string, err error) {
	real, hints, err := resolve(path)
	for _, h := range hints {
		s.note.name(h, s.now)
	}
	return real, err
}

// missing notes that a path leads nowhere. It asks for another look soon, because the path may have come back after
// it was resolved and before the directory was watched.
func (s *scanner) missing(path string) {
	s.snap.blind = append(s.snap.blind, path)
	s.note.lost = true
}

// tree looks at a directory and all below it. Links are not followed, so there is no way in a circle.
func (s *scanner) tree(real, shown string) {
	if s.ctx.Err() != nil {
		return
	}
	s.note.tree(real, shown, s.now)
	entries, err := os.ReadDir(real)
	if err != nil {
		s.snap.blind = append(s.snap.blind, shown)
		return
	}
	for _, e := range entries {
		real, shown := filepath.Join(real, e.Name()), filepath.Join(shown, e.Name())
		if s.plan.ignored(shown, real) {
			continue
		}
		if e.IsDir() {
			s.tree(real, shown)
			continue
		}
		st, err := lstamp(real)
		if err != nil {
			continue // removed since ReadDir
		}
		if st.regular() || st.link() {
			s.snap.files[shown] = found{stamp: st, real: real, dir: filepath.Dir(real)}
		}
	}
}
