package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A workshop is a site with a module on it, which brood dev builds.
type workshop struct {
	*site
	src    string // of the module
	addr   string
	run    string // run directory of the program
	builds string // a file: a word when the go command begins to build, and one when it is through
	hook   string // a file: if it is there, the go command runs it before it is through, once
	out    output

	devFlags []string
	devEnv   []string
	stderr   *os.File // of brood dev; nil: out
	dev      *exec.Cmd
	exited   chan struct{} // closed when it has exited
}

// devModule is a module whose program answers with a text from itself, one of a file that it embeds, and one of a module
// that go.mod replaces by a directory.
var devModule = map[string]string{
	"main.go": `package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"net/http"
	"os"

	"ex.org/lib"
	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
)

//go:embed page/*.txt
var pages embed.FS

const text = "one"

func main() {
	page, _ := pages.ReadFile("page/page.txt")
	answer := fmt.Sprintf("main=%s lib=%s page=%s", text, lib.Text, page)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, answer) })
	cfg := daemon.Config{Name: "thing", MainLoop: serve.HTTP(&http.Server{})}
	cfg.ChildInit = func(*daemon.Child) error { return initErr }
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	if err := daemon.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var initErr error
`,
	"page/page.txt": "one",
	"lib/go.mod":    "module ex.org/lib\n\ngo 1.26\n",
	"lib/lib.go":    "package lib\n\nconst Text = \"one\"\n",
}

// openWorkshop writes the module and a go command that keeps a record of the builds.
func openWorkshop(tb testing.TB) *workshop {
	tb.Helper()
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		tb.Fatal(err)
	}
	w := &workshop{site: newSite(tb, dir), src: filepath.Join(dir, "src"), run: filepath.Join(dir, "run"),
		builds: filepath.Join(dir, "builds"), hook: filepath.Join(dir, "hook")}
	tb.Cleanup(w.site.clear)
	for name, text := range devModule {
		w.write(name, text)
	}
	w.module()
	real, err := exec.LookPath("go")
	if err != nil {
		tb.Fatal(err)
	}
	w.write("../bin/go", fmt.Sprintf("#!/bin/sh\n[ $1 = build ] || exec %s \"$@\"\necho begin >>%s\n%[1]s \"$@\"\nstatus=$?\n"+
		"if [ -e %[3]s ]; then mv %[3]s %[3]s.1; sh %[3]s.1; fi\necho end >>%[2]s\nexit $status\n", real, w.builds, w.hook))
	if err := os.Chmod(filepath.Join(dir, "bin", "go"), 0o755); err != nil {
		tb.Fatal(err)
	}
	if out, err := firstBuild(w.src); err != nil {
		tb.Fatalf("the module cannot be built: %v\n%s", err, out)
	}
	return w
}

// firstBuild builds a workshop's module once, for the cache of all of them: where that is empty it takes minutes, and several at the
// same time would each compile everything.
var firstBuild = func() func(src string) ([]byte, error) {
	var once sync.Once
	var out []byte
	var err error
	return func(src string) ([]byte, error) {
		once.Do(func() {
			build := exec.Command("go", "build", "-o", os.DevNull, ".")
			build.Dir, build.Env = src, append(os.Environ(), goSettings()...)
			out, err = build.CombinedOutput()
		})
		return out, err
	}
}()

// module writes a go.mod that takes the toolkit from this tree, with all that it needs.
func (w *workshop) module() {
	w.tb.Helper()
	tree, err := filepath.Abs("..")
	if err != nil {
		w.tb.Fatal(err)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		w.tb.Fatal(err)
	}
	sum, err := os.ReadFile("../go.sum")
	if err != nil {
		w.tb.Fatal(err)
	}
	w.write("go.mod", strings.Replace(string(mod), "module "+module, "module ex.org/thing", 1)+fmt.Sprintf(
		"\nrequire (\n\tex.org/lib v0.0.0\n\t%s v0.0.0\n)\n\nreplace (\n\tex.org/lib => ./lib\n\t%[1]s => %s\n)\n", module, tree))
	w.write("go.sum", string(sum))
}

// write saves a file of the module by renaming, as careful editors do. B31
func (w *workshop) write(name, text string) {
	w.tb.Helper()
	path := filepath.Join(w.src, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path+"~", []byte(text), 0o644)
	}
	if err == nil {
		err = os.Rename(path+"~", path)
	}
	if err != nil {
		w.tb.Fatal(err)
	}
}

// edit replaces a text in a file of the module, and saves in place.
func (w *workshop) edit(name, from, to string) {
	w.tb.Helper()
	path := filepath.Join(w.src, name)
	b, err := os.ReadFile(path)
	if err != nil {
		w.tb.Fatal(err)
	}
	if !bytes.Contains(b, []byte(from)) {
		w.tb.Fatalf("no %q in %s", from, name)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(b, []byte(from), []byte(to)), 0o644); err != nil {
		w.tb.Fatal(err)
	}
}

// goSettings is where the go command finds what it needs: a site has no home.
var goSettings = sync.OnceValue(func() []string {
	var env []string
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		if out, err := exec.Command("go", "env", name).Output(); err == nil {
			env = append(env, name+"="+strings.TrimSpace(string(out)))
		}
	}
	return append(env, "GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=", "GOWORK=")
})

// environ has the go command that keeps a record before all others, and leaves the settings of a developer to brood dev.
func (w *workshop) environ() []string {
	env := slices.DeleteFunc(w.site.environ(), func(kv string) bool { return strings.HasPrefix(kv, "BROOD_SOAK=") })
	return append(append(env, goSettings()...), "PATH="+filepath.Join(w.dir, "bin")+":"+os.Getenv("PATH"))
}

// start runs brood dev, in a process group of its own as a shell would, with a free port for the program.
func (w *workshop) start(flags ...string) {
	w.tb.Helper()
	w.addr = filepath.Join(w.dir, "s")
	args := slices.Concat([]string{"dev"}, w.devFlags, []string{".", "-listen", "unix:" + w.addr, "-run-dir", w.run}, flags)
	cmd := w.command("brood", args...)
	cmd.Dir, cmd.Env = w.src, w.environ()
	cmd.Env = append(cmd.Env, w.devEnv...)
	cmd.Stdout, cmd.Stderr = &w.out, &w.out
	if w.stderr != nil {
		cmd.Stderr = w.stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.tb.Fatal(err)
	}
	exited := make(chan struct{})
	w.dev, w.exited = cmd, exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
	w.undo = append(w.undo, func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		select {
		case <-exited:
		case <-time.After(patience):
			cmd.Process.Kill()
			w.tb.Error("brood dev does not stop")
		}
		if w.tb.Failed() {
			w.tb.Logf("brood dev:\n%s", w.out.String())
		}
	})
}
