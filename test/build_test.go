package test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// room is the length of a word that has a place in a mould.
const room = 256

// ofMould is what is built into a mould, of which variants are made: to link each of them takes a second of a processor.
var ofMould = strings.Repeat(".", room)

// A store makes each file once, when it is first wanted.
type store struct {
	mu   sync.Mutex
	file map[string]func() (string, error)
}

var variants store

// get returns the path of a file that write makes.
func (s *store) get(name string, write func(path string) error) (string, error) {
	s.mu.Lock()
	if s.file == nil {
		s.file = map[string]func() (string, error){}
	}
	once := s.file[name]
	if once == nil {
		once = sync.OnceValues(func() (string, error) {
			path := filepath.Join(root, name)
			return path, write(path)
		})
		s.file[name] = once
	}
	s.mu.Unlock()
	return once()
}

// file returns the path of a variant.
func (v variant) file() (string, error) {
	mould, err := variants.get(v.program+"-mould"+v.tags(), func(path string) error {
		return goBuild(path, variant{v.program, ofMould, ofMould}.ldflags(), v.tags(), packages[v.program])
	})
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%s-%s", v.program, v.build, strings.ReplaceAll(v.defect, "/", "_"))
	return variants.get(name, func(path string) error {
		b, err := os.ReadFile(mould)
		if err == nil {
			err = v.cast(b)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return writeProgram(path, b)
	})
}

// cast writes what is built into a variant into its mould.
func (v variant) cast(mould []byte) error {
	f, err := elf.NewFile(bytes.NewReader(mould))
	if err != nil {
		return err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return err
	}
	// place is where a symbol lies in the file; nil: nowhere.
	place := func(name string) []byte {
		i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == name })
		if i < 0 || int(symbols[i].Section) >= len(f.Sections) {
			return nil
		}
		section := f.Sections[symbols[i].Section]
		return mould[section.Offset+symbols[i].Value-section.Addr:]
	}
	for name, word := range map[string]string{"main.build": v.build, "main.defect": v.defect} {
		header, text := place(name), place(name+".str")
		switch {
		case header == nil && word == "": // a program that knows of no defects
			continue
		case header == nil || text == nil || string(text[:room]) != ofMould || len(word) > room:
			return fmt.Errorf("no room for %s=%q", name, word)
		}
		copy(text, word)
		// A string is an address and a length, each of them a word of the machine.
		if f.Class == elf.ELFCLASS64 {
			f.ByteOrder.PutUint64(header[8:], uint64(len(word)))
		} else {
			f.ByteOrder.PutUint32(header[4:], uint32(len(word)))
		}
	}
	return nil
}

// writeProgram writes a program that can be executed at once.
//
// A process that another test starts at this moment would for an instant hold the file open for writing, and whoever executes it
// then would get ETXTBSY (golang/go#22315). So nothing is started meanwhile.
func writeProgram(path string, b []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, b, 0o755)
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
	if err := writeProgram(temp, b); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
