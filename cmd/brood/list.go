package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/tree"
)

// goCommand prepares the go command. It is in a process group of its own: Ctrl-C at the terminal must not make a build
// look like one that has failed. When ctx ends it is killed with all that it has started.
func goCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		return tree.Kill(tree.Root{PID: cmd.Process.Pid, Signal: func(s unix.Signal) error { return cmd.Process.Signal(s) }})
	}
	return cmd
}

// A goPackage is what go list says of a package.
type goPackage struct {
	ImportPath     string
	Name           string
	Dir            string
	DepOnly        bool
	Standard       bool
	Module         *goModule
	GoFiles        []string
	CgoFiles       []string
	InvalidGoFiles []string
	EmbedPatterns  []string
	Error          *struct{ Err string }
}

type goModule struct {
	Path    string
	Main    bool // also each module of a workspace
	Dir     string
	GoMod   string
	Replace *struct{ Version string }
}

const listFields = "-json=ImportPath,Name,Dir,DepOnly,Standard,Module,GoFiles,CgoFiles,InvalidGoFiles,EmbedPatterns,Error"

// local reports whether the module's files are the user's own: it is the main module, or in the workspace, or replaced by
// a directory.
func (m *goModule) local() bool { return m.Main || m.Replace != nil && m.Replace.Version == "" }

// A listing is what go list finds out about a program.
type listing struct {
	name    string // of the program, as go build would call it
	sources sources
	broken  bool // something cannot be read: the imports behind it are not known
}

// list asks the go command what a program is built from. What is wrong with the sources is no error: they may be in the
// middle of a change. What is wrong with the argument is.
func list(ctx context.Context, arg string) (listing, error) {
	out, err := output(goCommand(ctx, "list", "-e", "-deps", listFields, "--", arg))
	if err != nil {
		return listing{}, err
	}
	work, err := output(goCommand(ctx, "env", "GOWORK"))
	if err != nil {
		return listing{}, err
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return listing{}, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
	l := listing{sources: sources{modules: map[string]bool{}, packages: map[string][]string{}}}
	if l.name, err = program(arg, all); err != nil {
		return listing{}, err
	}
	if file := string(bytes.TrimSpace(work)); filepath.IsAbs(file) {
		l.sources.modules[filepath.Dir(file)] = true
	}
	l.collect(all)
	return l, nil
}

// output runs a command and returns what it prints. An error is what it says itself.
func output(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && len(exit.Stderr) > 0 {
		err = errors.New(string(bytes.TrimSpace(exit.Stderr)))
	}
	return out, err
}

// program returns the name of the program that the user means.
func program(arg string, all []goPackage) (string, error) {
	named := slices.DeleteFunc(slices.Clone(all), func(p goPackage) bool { return p.DepOnly })
	if len(named) != 1 {
		return "", fmt.Errorf("%s is %d packages: want one program", arg, len(named))
	}
	p := named[0]
	files := len(p.GoFiles) + len(p.CgoFiles) + len(p.InvalidGoFiles)
	switch {
	case p.Error != nil && (p.Dir == "" || files == 0):
		return "", fmt.Errorf("%s: %s", arg, p.Error.Err)
	case p.Name != "main" && p.Name != "":
		return "", fmt.Errorf("%s is package %s: want a program, package main", arg, p.Name)
	case p.Standard:
		return "", fmt.Errorf("%s is of the standard library: there is nothing to watch", arg)
	}
	return programName(p), nil
}

// version is the last element of an import path that is no name.
var version = regexp.MustCompile(`^v([2-9]|[1-9][0-9]+)$`)

// programName is what go build calls the program.
func programName(p goPackage) string {
	if p.ImportPath == "command-line-arguments" && len(p.GoFiles) > 0 {
		return strings.TrimSuffix(p.GoFiles[0], ".go")
	}
	dir, name := path.Split(p.ImportPath)
	if dir != "" && version.MatchString(name) {
		name = path.Base(dir)
	}
	return name
}

// collect finds the directories of local packages.
func (l *listing) collect(all []goPackage) {
	modules := map[string]string{} // directories by path
	var missing []string
	for _, p := range all {
		switch {
		case p.Standard:
			continue
		case p.Dir == "":
			missing = append(missing, p.ImportPath)
			continue
		case p.Module != nil && !p.Module.local():
			continue
		case p.Error != nil || len(p.InvalidGoFiles) > 0:
			l.broken = true
		}
		l.sources.packages[p.Dir] = slices.Sorted(slices.Values(p.EmbedPatterns))
		if p.Module != nil && p.Module.GoMod != "" {
			modules[p.Module.Path] = p.Module.Dir
			l.sources.modules[filepath.Dir(p.Module.GoMod)] = true
		}
	}
	// A package that is imported already and not written yet.
	for _, imported := range missing {
		l.broken = true
		for module := imported; module != "." && module != "/"; module = path.Dir(module) {
			if dir, ok := modules[module]; ok {
				l.sources.packages[filepath.Join(dir, strings.TrimPrefix(imported, module))] = nil
				break
			}
		}
	}
}
