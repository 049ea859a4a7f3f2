package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A change of whatever the program is built from is rolled over, with requests coming in all the time. B23, B31, B32, B36
func TestDevRollsOver(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.start()
	w.answers("main=one lib=one page=one")
	w.says(1, "thing started")
	load := startLoad(w.addr + ":/")
	defer load.end()

	w.edit("main.go", `"one"`, `"two"`)
	w.answers("main=two")
	w.says(1, "rolled over")
	w.write("lib/lib.go", "package lib\n\nconst Text = \"two\"\n")
	w.answers("lib=two")
	w.write("page/page.txt", "two")
	w.answers("page=two")
	w.says(3, "rolled over")

	// A package that is there only from now on, and that is watched from now on.
	w.edit("main.go", "\n\t\"ex.org/lib\"", "\n\t\"ex.org/lib\"\n\t\"ex.org/thing/internal/fresh\"")
	w.edit("main.go", "lib.Text, page", `lib.Text+" fresh="+fresh.Text, page`)
	w.says(1, "cannot build thing; the last good build goes on")
	w.write("internal/fresh/fresh.go", "package fresh\n\nconst Text = \"one\"\n")
	w.answers("fresh=one")
	w.write("internal/fresh/fresh.go", "package fresh\n\nconst Text = \"two\"\n")
	w.answers("fresh=two")
	// One that is not wanted any more may go.
	w.edit("main.go", `"ex.org/thing/internal/fresh"`, "")
	w.edit("main.go", "fresh.Text", `"none"`)
	w.answers("fresh=none")
	if err := os.RemoveAll(filepath.Join(w.src, "internal")); err != nil {
		t.Fatal(err)
	}
	w.write("page/page.txt", "three")
	w.answers("page=three")
	if err := load.finish(100); err != nil {
		t.Error(err)
	}
	t.Log(load)
	w.idle()
}

// What changes nothing is not built, or not rolled over. B36
func TestDevNothingChanges(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.start()
	w.answers("main=one")
	before := w.idle()
	for _, name := range []string{"main.go", "go.mod", "page/page.txt", "lib/lib.go"} {
		if err := os.Chtimes(filepath.Join(w.src, name), time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	w.write("main_test.go", "package main\n")
	w.write("note.log", "a line\n")
	w.write("page/readme.md", "not embedded\n")
	if n := w.idle(); n != before {
		t.Errorf("%d builds of nothing", n-before)
	}
	// What makes no difference to the program is built, and that is all.
	w.edit("lib/lib.go", `"one"`, `"one" // a number`)
	w.says(1, "the same program as before")
	w.idle()
	w.says(0, "rolled over")
}

// An error of the compiler is told once, and the last good build goes on.
func TestDevBuildError(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.start()
	w.answers("main=one")
	const cannot = "cannot build thing; the last good build goes on"
	w.edit("main.go", "lib.Text", "lib.Nothing")
	w.says(1, cannot)
	w.says(1, "undefined: lib.Nothing")
	// The same error again.
	before := w.idle()
	w.edit("main.go", "var initErr error", "var initErr error // as ever")
	w.building(before)
	w.idle()
	w.says(1, cannot)
	w.answers("main=one")
	// Another one.
	w.edit("main.go", "lib.Nothing", "lib.Nowhere")
	w.says(2, cannot)
	w.edit("main.go", "lib.Nowhere", `lib.Text+"!"`)
	w.answers("lib=one!")
	// And the first one once more: that is news.
	w.edit("main.go", "lib.Text", "lib.Nothing")
	w.says(3, cannot)
	if strings.Contains(w.out.String(), "\x1b") {
		t.Error("colours, and this is no terminal")
	}
}

// A change that is saved in two steps is one: what fails in between is not told. B33
func TestDevHalfSaved(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.start()
	w.answers("main=one")
	before := w.idle()
	w.edit("main.go", `"one"`, "one")
	w.building(before)
	w.edit("main.go", "= one", `= "two"`)
	w.answers("main=two")
	w.idle()
	// The second step comes just before the build has failed, and the watch has not told of it yet.
	w.write("../hook", "sed -i 's/= two/= \"three\"/' main.go\n")
	w.edit("main.go", `= "two"`, "= two")
	w.answers("main=three")
	w.idle()
	w.says(0, "cannot build")
}

// A program that compiles and does not come up is given up, and the user is told why.
func TestDevGivenUp(t *testing.T) { // B21
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.start()
	w.answers("main=one")
	w.edit("main.go", "var initErr error", `var initErr = fmt.Errorf("no luck today")`)
	w.says(1, "brood dev: the new build was given up, the last good one goes on: ")
	for line := range strings.Lines(w.out.String()) {
		if strings.Contains(line, "given up, the last") && !strings.Contains(line, "no luck today") {
			t.Errorf("no reason in %s", line)
		}
	}
	w.answers("main=one")
	// Back to what is running: there is nothing to roll over.
	w.edit("main.go", `var initErr = fmt.Errorf("no luck today")`, "var initErr error")
	w.says(1, "the same program as before")
	w.edit("main.go", `"one"`, `"two"`)
	w.answers("main=two")
}

// The first build may fail: it waits.
func TestDevFirstBuildBroken(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.edit("main.go", "package main", "packag main")
	w.start()
	w.says(1, "cannot build thing; waiting for a change")
	w.edit("main.go", "packag main", "package main")
	w.answers("main=one")
	// What could not be known while it could not be read is watched now.
	w.edit("lib/lib.go", `"one"`, `"two"`)
	w.answers("lib=two")
}

// A program that ends by itself is started again when a change has been built.
func TestDevProgramEnds(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.edit("main.go", "flag.Parse()", "flag.Parse(); os.Exit(7)")
	w.start()
	w.says(1, "thing has ended: exit status 7")
	w.edit("main.go", "os.Exit(7)", "os.Exit(8)")
	w.says(1, "thing has ended: exit status 8")
	w.edit("main.go", "os.Exit(8)", "")
	w.answers("main=one")
	w.idle()
	w.says(3, "thing started")
	// So is one that an operator stops.
	if out, err := w.command("brood", "stop", w.run).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.says(1, "thing has ended: exit status 0")
	w.edit("main.go", `"one"`, `"two"`)
	w.answers("main=two")
}

// The module may be one of a workspace.
func TestDevWorkspace(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.edit("go.mod", "\tex.org/lib => ./lib\n", "")
	w.edit("go.mod", "\tex.org/lib v0.0.0\n", "")
	w.start()
	w.says(1, "no required module provides package ex.org/lib")
	w.write("go.work", "go 1.26.0\n\nuse (\n\t.\n\t./lib\n)\n")
	w.answers("lib=one")
	w.edit("lib/lib.go", `"one"`, `"two"`)
	w.answers("lib=two")
}

// The program is told how to behave in a developer's hands, and what the user has set goes before, but for what cannot be.
func TestDevEnvironment(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	for _, c := range []struct{ name, set, want string }{
		{"as it is", "BROOD_DAEMONIZE=true", "BROOD_SOAK=200ms"}, {"set", "BROOD_SOAK=70ms", "BROOD_SOAK=70ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := openWorkshop(t)
			w.devEnv = []string{c.set, "BROOD_AUTO_RELOAD_WHEN=always"}
			w.start()
			w.answers("main=one")
			var env []byte
			for _, p := range childrenOf(w.dev.Process.Pid) {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
				if err == nil && p.name == "thing" {
					env = b
				}
			}
			for _, want := range []string{c.want, "BROOD_AUTO_RELOAD_WHEN=never", "BROOD_DAEMONIZE=false"} {
				if !strings.Contains("\x00"+string(env), "\x00"+want+"\x00") {
					t.Errorf("no %s in %q", want, env)
				}
			}
		})
	}
}

// A checkout of 500 files is two builds at most, one after the other. B32
func TestDevStorm(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	w := openWorkshop(t)
	w.start()
	w.answers("main=one")
	before := w.idle()
	for i := range 500 {
		if i == 250 {
			w.building(before) // of the half
		}
		w.write(fmt.Sprintf("lib/lib%d.go", i), fmt.Sprintf("package lib\n\nconst Text%d = %[1]d\n", i))
	}
	w.edit("lib/lib.go", `"one"`, `"two"`)
	w.answers("lib=two")
	if n := w.idle() - before; n > 2 {
		t.Errorf("%d builds, want two at most", n)
	}
	w.says(1, "rolled over")
}
