package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// packages are where the programs under test come from.
var packages = map[string]string{
	"jobs":   "./examples/jobs",
	"echod":  "./examples/echo", // "echo" would hide a program that scripts use
	"spool":  "./examples/spool",
	"c10k":   "./examples/c10k",
	"brood":  "./cmd/brood",
	"broken": "./test/daemons/broken",
	"vandal": "./test/daemons/vandal",
	"talker": "./test/daemons/talker",
}

// raceOptions is the environment variable GORACE for programs built with -race: without it each of them sleeps for a
// second when it exits.
const raceOptions = "atexit_sleep_ms=0"

func buildPrograms() error {
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	var all []string
	for _, pkg := range packages {
		all = append(all, pkg)
	}
	if err := goBuild(bin+"/", "", all...); err != nil {
		return err
	}
	return os.Rename(filepath.Join(bin, "echo"), filepath.Join(bin, "echod"))
}

// goBuild builds packages, before which flags may stand, as the programs under test are built: with the race detector if this
// test has it.
func goBuild(out, ldflags string, pkgs ...string) error {
	args := []string{"build", "-o", out, "-ldflags", ldflags}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, pkgs...)...)
	cmd.Dir = ".."
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, b)
	}
	return nil
}

// A variant is a program with something built into it.
type variant struct{ program, build, defect string }

func (v variant) ldflags() string {
	flags := "-X main.build=" + v.build
	if v.defect != "" {
		flags += " -X main.defect=" + v.defect
	}
	return flags
}

// tags make the build "next" one of a toolkit that speaks a newer agreement, too.
func (v variant) tags() string {
	if v.build == "next" {
		return "-tags=brood_next"
	}
	return "-tags="
}

var variants struct {
	mu   sync.Mutex
	file map[variant]func() (string, error)
}

// file returns the path of a variant, which is built when it is first wanted.
func (v variant) file() (string, error) {
	variants.mu.Lock()
	if variants.file == nil {
		variants.file = map[variant]func() (string, error){}
	}
	get := variants.file[v]
	if get == nil {
		get = sync.OnceValues(func() (string, error) {
			path := filepath.Join(root, fmt.Sprintf("%s-%s-%s", v.program, v.build, strings.ReplaceAll(v.defect, "/", "_")))
			return path, goBuild(path, v.ldflags(), v.tags(), packages[v.program])
		})
		variants.file[v] = get
	}
	variants.mu.Unlock()
	return get()
}

// install puts a variant at path with a rename, as a careful deploy does. B31
func (v variant) install(path string) error {
	from, err := v.file()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	temp := filepath.Join(dir, "."+name+".new")
	// A process that another test starts at this moment would for an instant hold the file open for writing, and whoever
	// executes it then would get ETXTBSY (golang/go#22315). So nothing is started meanwhile.
	syscall.ForkLock.RLock()
	err = os.WriteFile(temp, b, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	return os.Rename(temp, path)
}
