package reload

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// saves are the ways in which a file gets new content. B31
var saves = map[string]func(t *testing.T, path string){
	"in place": func(t *testing.T, path string) { write(t, path, "new") },
	"truncate and write": func(t *testing.T, path string) { // VS Code
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		try(t, err)
		try(t, f.Truncate(0))
		_, err = f.WriteString("ne")
		try(t, err)
		try(t, f.Sync())
		_, err = f.WriteString("w")
		try(t, err)
		try(t, f.Close())
	},
	"rename over": func(t *testing.T, path string) {
		write(t, path+".tmp1", "new")
		try(t, os.Rename(path+".tmp1", path))
	},
	"rename away and create, with a backup": func(t *testing.T, path string) { // vim, backupcopy=no
		probe := filepath.Join(filepath.Dir(path), "4913")
		write(t, probe, "")
		try(t, os.Remove(probe))
		try(t, os.Rename(path, path+"~"))
		write(t, path, "new")
		try(t, os.Chmod(path, 0o644))
		try(t, os.Remove(path+"~"))
	},
	"safe write": func(t *testing.T, path string) { // JetBrains
		write(t, path+"___jb_tmp___", "new")
		try(t, os.Rename(path, path+"___jb_old___"))
		try(t, os.Rename(path+"___jb_tmp___", path))
		try(t, os.Remove(path+"___jb_old___"))
	},
	"remove and create": func(t *testing.T, path string) {
		try(t, os.Remove(path))
		write(t, path, "new")
	},
	"sed -i": func(t *testing.T, path string) { run(t, filepath.Dir(path), "sed", "-i", "s/old/new/", path) },
	"vim": func(t *testing.T, path string) {
		run(t, filepath.Dir(path), "vim", "-u", "NONE", "-i", "NONE", "-es", "-c", "%s/old/new/", "-c", "wq", path)
	},
	"vim with backup": func(t *testing.T, path string) {
		run(t, filepath.Dir(path), "vim", "-u", "NONE", "-i", "NONE", "-es",
			"-c", "set backup backupcopy=no", "-c", "%s/old/new/", "-c", "wq", path)
	},
	"vim with a copied backup": func(t *testing.T, path string) {
		run(t, filepath.Dir(path), "vim", "-u", "NONE", "-i", "NONE", "-es",
			"-c", "set backup backupcopy=yes", "-c", "%s/old/new/", "-c", "wq", path)
	},
	"cp":      func(t *testing.T, path string) { run(t, "/", "cp", source(t), path) },
	"install": func(t *testing.T, path string) { run(t, "/", "install", "-m", "644", source(t), path) },
	"mv":      func(t *testing.T, path string) { run(t, "/", "mv", source(t), path) },
	"hard link": func(t *testing.T, path string) {
		run(t, filepath.Dir(path), "ln", "-f", write(t, path+".swp", "new"), path)
	},
}

func source(t *testing.T) string { return write(t, filepath.Join(t.TempDir(), "source"), "new") }

func TestSaves(t *testing.T) {
	t.Parallel()
	for name, save := range saves {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, kind := range []string{"file", "program", "tree", "linked file", "linked tree"} {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					mkdir(t, dir, "real/sub")
					try(t, os.Symlink("real", filepath.Join(dir, "link")))
					real := write(t, filepath.Join(dir, "real/sub/f"), "old")
					write(t, filepath.Join(dir, "real/sub/g"), "old")
					linked := filepath.Join(dir, "link/sub/f")
					var p *probe
					shown := real
					switch kind {
					case "program":
						try(t, os.Chmod(real, 0o755))
						p = watch(t, Files(real))
					case "file":
						p = watch(t, Files(real))
					case "tree":
						p = watch(t, Dirs(filepath.Join(dir, "real")))
					case "linked file":
						shown = linked
						p = watch(t, Files(linked))
					case "linked tree":
						shown = linked
						p = watch(t, Dirs(filepath.Join(dir, "link")))
					}
					save(t, real)
					p.once(shown)
				})
			}
		})
	}
}

// Deploys turn a link to another release. B31
func TestLinkSwap(t *testing.T) {
	t.Parallel()
	swaps := map[string]func(t *testing.T, dir, to string){
		"ln -sfn": func(t *testing.T, dir, to string) { run(t, dir, "ln", "-sfn", to, "current") },
		"mv -T": func(t *testing.T, dir, to string) {
			try(t, os.Symlink(to, filepath.Join(dir, "next")))
			run(t, dir, "mv", "-T", "next", "current")
		},
		"unlink and link": func(t *testing.T, dir, to string) {
			try(t, os.Remove(filepath.Join(dir, "current")))
			try(t, os.Symlink(to, filepath.Join(dir, "current")))
		},
	}
	for name, swap := range swaps {
		for _, mode := range []os.FileMode{0o644, 0o755} {
			for _, kind := range []string{"file", "tree"} {
				t.Run(fmt.Sprint(name, mode, kind), func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					for i := range 4 {
						rel := mkdir(t, dir, "releases", fmt.Sprint(i))
						// Release 2 is the same build as release 1.
						writeMode(t, filepath.Join(rel, "app"), fmt.Sprintf("build %d", min(i, 1+i/3)), mode)
					}
					try(t, os.Symlink("releases/0", filepath.Join(dir, "current")))
					app := filepath.Join(dir, "current/app")
					set := Files(app)
					if kind == "tree" {
						set = Dirs(filepath.Dir(app))
					}
					p := watch(t, set)
					swap(t, dir, "releases/1")
					p.once(app)
					swap(t, dir, "releases/2")
					p.silent() // B36
					write(t, filepath.Join(dir, "releases/0/app"), "edited")
					p.silent() // not where the link leads
					replace(t, filepath.Join(dir, "releases/2/app"), "edited too")
					p.once(app)
					swap(t, dir, "releases/3")
					p.once(app)
				})
			}
		}
	}
}

// A Kubernetes volume: the file is a link to ..data/FILE, ..data a link to a directory named after the time. B31
func TestVolumeFlip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	flip := func(version string) {
		next := mkdir(t, dir, "..2026_"+version)
		write(t, filepath.Join(next, "config"), version)
		old, _ := os.Readlink(filepath.Join(dir, "..data"))
		try(t, os.Symlink(filepath.Base(next), filepath.Join(dir, "..data_tmp")))
		try(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if old != "" {
			try(t, os.RemoveAll(filepath.Join(dir, old)))
		}
	}
	flip("1")
	config := filepath.Join(dir, "config")
	try(t, os.Symlink("..data/config", config))
	file, tree := watch(t, Files(config)), watch(t, Dirs(dir))
	for _, version := range []string{"2", "3"} {
		flip(version)
		file.once(config)
		if c := tree.next(); len(c.Paths) != 3 { // the link and the files in the old and the new directory
			t.Errorf("tree: %v", c.Paths)
		}
		tree.silent()
	}
}

// Two files of one deploy are one report.
func TestSeveralFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := writeMode(t, filepath.Join(dir, "a"), "1", 0o755)
	b := writeMode(t, filepath.Join(dir, "b"), "1", 0o755)
	conf := write(t, filepath.Join(mkdir(t, dir, "conf"), "c"), "1")
	p := watch(t, Set{Files: []string{b, a, a}, Dirs: []string{filepath.Dir(conf)}})
	next := write(t, filepath.Join(dir, "next"), "2")
	for _, path := range []string{a, conf, b} {
		tmp := path + ".tmp"
		try(t, os.Link(next, tmp))
		try(t, os.Rename(tmp, path))
	}
	p.once(a, b, conf)
}

// Directories alone are nothing; files made in them before they are watched are seen.
func TestNewDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := watch(t, Dirs(dir))
	sub := mkdir(t, dir, "a/b/c")
	p.silent()
	f := write(t, filepath.Join(sub, "f"), "1")
	p.once(f)
	g := write(t, filepath.Join(mkdir(t, dir, "x/y/z"), "g"), "1")
	p.once(g)
	p.settled(g, "2")
	try(t, os.RemoveAll(filepath.Join(dir, "a")))
	p.once(f)
}

// A new directory is watched at once, not only by the next look, so that the look waits for what happens in it.
func TestNewDirectoryIsHeard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	added := make(chan string, 100)
	k := linux
	k.add = func(w *fsnotify.Watcher, d string) error {
		added <- d
		return w.Add(d)
	}
	watchOn(t, Set{Dirs: []string{dir}, Settle: time.Hour}, k)
	sub := mkdir(t, dir, "a/b")
	for timeout := time.After(deadline); ; {
		select {
		case d := <-added:
			if d == sub {
				return
			}
		case <-timeout:
			t.Fatal("not watched")
		}
	}
}

// Links in a tree count by their text.
func TestLinksInTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := watch(t, Dirs(dir))
	link := filepath.Join(dir, "link")
	try(t, os.Symlink("a", link))
	p.once(link)
	run(t, dir, "ln", "-sfn", "a", "link")
	p.silent() // the same text: B36
	run(t, dir, "ln", "-sfn", "b", "link")
	p.once(link)
	try(t, os.Remove(link))
	p.once(link)
}

// In a renamed directory the old files are gone and the new ones come. It goes on being watched under its new name, and
// so is another one that takes the old name.
func TestRenamedDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := filepath.Join(mkdir(t, dir, "z/b/c"), "f")
	write(t, old, "1")
	p := watch(t, Dirs(dir))
	moved := filepath.Join(dir, "d/b/c/f")
	try(t, os.Rename(filepath.Join(dir, "z"), filepath.Join(dir, "d")))
	p.once(old, moved)
	p.settled(moved, "2")
	mkdir(t, filepath.Dir(old))
	write(t, old, "3")
	p.once(old)
	p.settled(moved, "4")
	p.settled(old, "5")
}

// What is ignored may be written for ever.
func TestIgnoredInTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := write(t, filepath.Join(dir, "f"), "1")
	p := watch(t, Set{Dirs: []string{dir}, Ignore: []string{"*.log"}, IgnorePaths: []string{filepath.Join(dir, "run")}})
	for _, name := range []string{"x/app.log", "run/pid", ".git/index", "x/f~", ".f.swp", "x/4913"} {
		mkdir(t, filepath.Dir(filepath.Join(dir, name)))
		write(t, filepath.Join(dir, name), "1")
	}
	p.silent()
	p.settled(f, "2")
}
