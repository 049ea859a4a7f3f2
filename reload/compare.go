package reload

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// biggestHashed is the size above which a file of a tree is judged by size, mtime and inode.
	biggestHashed = 64 << 20
	// firstHashed is how much of the trees is read when watching starts.
	firstHashed = 128 << 20
)

// entry is a file as it was last reported, or as it was when watching started.
type entry struct {
	stamp
	text   string   // of a symbolic link
	sum    [32]byte // of a regular file, if hashed
	hashed bool
	young  bool // the same stamp does not yet prove the same content; see stamp.fresh
	gone   bool // it was removed from a tree; nothing else is set
}

// same says whether two states of a file have the same content.
func (e entry) same(o entry) bool {
	switch {
	case e.kind() != o.kind(), e.size != o.size:
		return false
	case e.link():
		return e.text == o.text
	case e.exec() != o.exec():
		return false
	case e.hashed && o.hashed:
		return e.sum == o.sum
	}
	return e.mtime == o.mtime && e.ino == o.ino
}

// read completes what a look saw of a file by its content. It fails with ErrMoving if the file is not, or no longer, the
// one that was seen.
func (f found) read(ctx context.Context, hash bool) (entry, error) {
	e := entry{stamp: f.stamp, young: f.fresh(time.Now())}
	if f.link() {
		text, err := os.Readlink(f.real)
		if err != nil {
			return entry{}, ErrMoving
		}
		e.text = text
		return e, nil
	}
	if !hash || !f.named && f.size > biggestHashed {
		return e, nil
	}
	file, st, err := openRegular(f.real)
	switch {
	case unreadable(err):
		return e, nil
	case err != nil:
		return entry{}, ErrMoving
	}
	defer file.Close()
	if st != f.stamp {
		return entry{}, ErrMoving
	}
	e.sum, err = sha(ctx, file, st)
	e.hashed = err == nil
	if unreadable(err) {
		return e, nil
	}
	return e, err
}

// unreadable says whether a file has to be judged by its stamp for good: a program may be executable and not
// readable, a disk may be broken. Any other error is that of a file about to change.
func unreadable(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EIO)
}

// comparison is the outcome of holding a snapshot against what is known.
type comparison struct {
	changed map[string]entry // at rest with other content
	moving  map[string]entry // differ and are not at rest, as seen now
	written string           // one of moving that somebody has open for writing, or ""
}

// judge compares snapshots. It knows what earlier looks saw.
type judge struct {
	ctx     context.Context
	plan    *plan
	note    *notifier
	writers func(path string) writing

	known map[string]entry // as last reported; the judge itself refreshes stamps of unchanged content
	prior map[string]entry // as the last look saw those that were moving
}

// compare holds a snapshot taken at now against what is known. calm says that events prove it undisturbed.
func (j *judge) compare(snap *snapshot, now time.Time, calm bool) comparison {
	c := comparison{changed: make(map[string]entry), moving: make(map[string]entry)}
	for path, f := range snap.files {
		old, ok := j.known[path]
		if ok && old.stamp == f.stamp && !old.young {
			continue
		}
		j.file(&c, path, f, old, now, calm)
	}
	for path := range j.known {
		if _, ok := snap.files[path]; ok || snap.unseen(path) {
			continue
		}
		if j.prior[path].gone || calm && !j.note.short {
			c.changed[path] = entry{gone: true}
		} else {
			c.moving[path] = entry{gone: true}
		}
	}
	j.prior = c.moving
	return c
}

// file compares one file whose stamp leaves its content in doubt.
func (j *judge) file(c *comparison, path string, f found, old entry, now time.Time, calm bool) {
	seen, again := j.prior[path]
	again = again && seen.stamp == f.stamp
	if f.named && (f.exec() != 0 || old.exec() != 0) {
		switch j.writers(f.real) {
		case somebody:
			c.moving[path] = entry{stamp: f.stamp}
			c.written = path
			return
		case unknown:
			calm = false // a slow copy may pause for longer than Settle: only agreeing looks count
		}
	}
	rest := again || calm && !f.justWritten(now, j.plan.settle) && j.note.vouches(f.dir, now, j.plan.settle)
	if !rest && old.stamp != f.stamp {
		c.moving[path] = entry{stamp: f.stamp}
		return
	}
	e := seen
	if !again || !seen.hashed || seen.young {
		var err error
		if e, err = f.read(j.ctx, true); err != nil {
			c.moving[path] = entry{stamp: f.stamp}
			return
		}
	}
	_, ok := j.known[path]
	switch {
	case ok && e.same(old):
		j.known[path] = e
	case rest:
		c.changed[path] = e
	default:
		c.moving[path] = e
	}
}

// hold remembers what the next look must confirm, with the hashes that were already taken.
func (j *judge) hold(c comparison) {
	maps.Copy(j.prior, c.changed)
}

// accept makes the changed files the known ones and returns their paths.
func (j *judge) accept(c comparison) []string {
	for path, e := range c.changed {
		if e.gone {
			delete(j.known, path)
		} else {
			j.known[path] = e
		}
	}
	return slices.Sorted(maps.Keys(c.changed))
}

// learn makes a first snapshot the known state. It says whether a look is owed at once, because a file is changing
// at this very moment or because the program that runs is no longer the one at its path.
func (j *judge) learn(snap *snapshot) (owed bool) {
	budget := int64(firstHashed)
	for _, path := range slices.Sorted(maps.Keys(snap.files)) {
		f := snap.files[path]
		hash := f.named || f.size <= budget
		e, err := f.read(j.ctx, hash)
		if err != nil {
			e, owed = entry{stamp: f.stamp, young: true}, true
		}
		if e.hashed && !f.named {
			budget -= f.size
		}
		j.known[path] = e
	}
	if j.plan.self == "" {
		return owed
	}
	var st unix.Stat_t
	if err := unix.Stat(runningProgram, &st); err != nil {
		return owed
	}
	running := found{stamp: stampFrom(&st), real: runningProgram, named: true}
	if e, err := running.read(j.ctx, true); err == nil && e.stamp != j.known[j.plan.self].stamp {
		j.known[j.plan.self] = e
		return true
	}
	return owed
}
