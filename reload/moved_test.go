package reload

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Relative paths are those of the moment of Open; where the process goes later does not matter. B35
func TestChdir(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	app := writeMode(t, filepath.Join(dir, "app"), "1", 0o755)
	f := write(t, filepath.Join(mkdir(t, dir, "tree"), "f"), "1")
	ignored := filepath.Join(dir, "tree/log")
	p := watch(t, Set{Files: []string{"app"}, Dirs: []string{"./tree"}, IgnorePaths: []string{"tree/log"}})
	t.Chdir("/")
	p.settled(app, "2")
	write(t, ignored, "x")
	p.settled(f, "2")
	try(t, os.Remove(f))
	p.once(f)
	write(t, f, "2")
	p.once(f)
}

// A watched directory is removed, or moved away, and comes back. B35
func TestDirectoryComesBack(t *testing.T) {
	t.Parallel()
	away := map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) { try(t, os.RemoveAll(dir)) },
		"renamed": func(t *testing.T, dir string) {
			try(t, os.RemoveAll(dir+".old"))
			try(t, os.Rename(dir, dir+".old"))
		},
		"parent removed": func(t *testing.T, dir string) {
			try(t, os.RemoveAll(filepath.Dir(dir)))
		},
	}
	for name, goAway := range away {
		for _, slow := range []bool{false, true} {
			for _, kind := range []string{"file", "tree"} {
				t.Run(fmt.Sprint(name, slow, kind), func(t *testing.T) {
					t.Parallel()
					dir := mkdir(t, t.TempDir(), "parent/dir")
					f := write(t, filepath.Join(dir, "f"), "1")
					set := Dirs(dir)
					if kind == "file" {
						set = Files(f)
					}
					p := watch(t, set)
					goAway(t, dir)
					if slow {
						p.silent() // for good or not, one cannot know
						time.Sleep(retryLost)
						p.silent()
					}
					mkdir(t, dir)
					write(t, f, "1")
					p.silent() // back as it was: B36
					p.settled(f, "2")
					goAway(t, dir)
					if slow {
						p.silent()
					}
					mkdir(t, dir)
					write(t, f, "3")
					p.once(f)
					p.settled(f, "4")
					if slow {
						p.settled(f, "5")
					}
				})
			}
		}
	}
}

// Another directory takes the place of the one with the program.
func TestDirectoryReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := writeMode(t, filepath.Join(mkdir(t, dir, "app"), "prog"), "1", 0o755)
	beside := write(t, filepath.Join(dir, "beside"), "1") // so that the directory above is watched, but not for this
	file, tree := watch(t, Files(app, beside)), watch(t, Dirs(filepath.Dir(app)))
	writeMode(t, filepath.Join(mkdir(t, dir, "next"), "prog"), "2", 0o755)
	try(t, os.Rename(filepath.Join(dir, "app"), filepath.Join(dir, "last")))
	try(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "app")))
	file.once(app)
	tree.once(app)
	writeMode(t, filepath.Join(dir, "last/prog"), "edited", 0o755)
	file.silent()
	tree.silent()
	writeMode(t, app, "33", 0o755)
	file.once(app)
	tree.once(app)
}
