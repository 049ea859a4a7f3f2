package reload

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Times, modes and inodes change, bytes do not. B36
func TestTouch(t *testing.T) {
	t.Parallel()
	touches := map[string]func(t *testing.T, path string){
		"touch":      func(t *testing.T, path string) { try(t, os.Chtimes(path, time.Now(), time.Now())) },
		"touch back": func(t *testing.T, path string) { try(t, os.Chtimes(path, epoch, epoch)) },
		"chmod":      func(t *testing.T, path string) { try(t, os.Chmod(path, 0o711)) },
		"rewrite":    func(t *testing.T, path string) { write(t, path, "old") },
		"replace":    func(t *testing.T, path string) { replace(t, path, "old") },
		"hard link":  func(t *testing.T, path string) { try(t, os.Link(path, filepath.Join(t.TempDir(), "l"))) },
		"there and back": func(t *testing.T, path string) {
			write(t, path, "new")
			write(t, path, "old")
		},
		"append and cut": func(t *testing.T, path string) {
			write(t, path, "old and more")
			try(t, os.Truncate(path, 3))
		},
	}
	for name, touch := range touches {
		for _, kind := range []string{"file", "tree", "polled file", "polled tree"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				f := writeMode(t, filepath.Join(t.TempDir(), "f"), "old", 0o755)
				set := Files(f)
				if kind == "tree" || kind == "polled tree" {
					set = Dirs(filepath.Dir(f))
				}
				k := linux
				if kind == "polled file" || kind == "polled tree" {
					k = deafKernel()
					set.Poll = quick
				}
				p := watchOn(t, set, k)
				touch(t, f)
				p.silent()
				touch(t, f)
				p.silent()
				p.settled(f, "new")
				p.settled(f, "yes") // same size
			})
		}
	}
}

// The executable bits decide whether a build starts.
func TestExecutableBit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := writeMode(t, filepath.Join(dir, "app"), "1", 0o755)
	file, tree := watch(t, Files(app)), watch(t, Dirs(dir))
	for _, mode := range []os.FileMode{0o644, 0o755} {
		try(t, os.Chmod(app, mode))
		file.once(app)
		tree.once(app)
	}
}

// A file whose mtime and size come back, but not its bytes, is a change: ctime cannot be set back.
func TestForgedTime(t *testing.T) {
	t.Parallel()
	f := write(t, filepath.Join(t.TempDir(), "f"), "old")
	try(t, os.Chtimes(f, epoch, epoch))
	p := watch(t, Files(f))
	write(t, f, "new")
	try(t, os.Chtimes(f, epoch, epoch))
	p.once(f)
}

// Big files of a tree are not read; size, mtime and inode speak for them.
func TestBigFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	big := write(t, filepath.Join(dir, "big"), "")
	try(t, os.Truncate(big, biggestHashed+1)) // sparse
	p := watch(t, Dirs(dir))
	try(t, os.Chmod(big, 0o600))
	p.silent()
	try(t, os.Chtimes(big, epoch, epoch))
	p.once(big)
	try(t, os.Truncate(big, biggestHashed+2))
	p.once(big)
}

// An unreadable program is judged by its stamp.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	f := found{stamp: stamp{mode: 0o100111, size: 4, mtime: 1, ino: 1}}
	same := entry{stamp: f.stamp}
	same.ctime, same.dev = 7, 7
	touched := entry{stamp: f.stamp}
	touched.mtime = 2
	moved := entry{stamp: f.stamp, hashed: true}
	moved.ino = 2
	e := entry{stamp: f.stamp}
	if !e.same(same) || e.same(touched) || e.same(moved) {
		t.Error("without hashes, size, mtime and inode decide")
	}
}

// What cannot be seen is not taken for removed.
func TestUnseen(t *testing.T) {
	t.Parallel()
	s := snapshot{blind: []string{"/a/b", "/"}[:1]}
	for path, want := range map[string]bool{"/a/b": true, "/a/b/c": true, "/a/bc": false, "/a": false} {
		if got := s.unseen(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	s.blind = []string{"/"}
	if !s.unseen("/a") {
		t.Error("below the root")
	}
}
