package reload

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Program returns the absolute path by which the running program was started, with symbolic links left alone.
// After a deploy that turns current from releases/1 to releases/2, current/app is then the new program.
// os.Executable cannot serve: it is readlink of /proc/self/exe and names releases/1 for ever.
//
// The path is argv[0], made absolute against the current directory or looked up in PATH, if that names the same
// file as /proc/self/exe at this moment; otherwise it is what os.Executable returns, which also gives the error.
// Call it before any chdir and before the program may be replaced. Safe for use by several goroutines.
func Program() (string, error) {
	if len(os.Args) > 0 {
		if path, ok := started(os.Args[0]); ok {
			return path, nil
		}
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("reload: find the running program: %w", err)
	}
	return path, nil
}

// started turns argv[0] into an absolute path and proves that it is the program that runs; argv[0] is
// whatever the starter chose to pass.
func started(argv0 string) (string, bool) {
	if argv0 == "" {
		return "", false
	}
	path := argv0
	if !strings.Contains(argv0, "/") {
		found, err := exec.LookPath(argv0)
		if err != nil && !errors.Is(err, exec.ErrDot) {
			return "", false
		}
		path = found
	}
	// Abs asks Getwd, which prefers $PWD if that is right: links in it stay unresolved too.
	path, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	there, err := os.Stat(path)
	if err != nil {
		return "", false
	}
	running, err := os.Stat(runningProgram)
	if err != nil {
		return "", false
	}
	return path, os.SameFile(there, running)
}

// runningProgram is the program that runs, also after the file was removed or replaced; see proc_pid_exe(5).
const runningProgram = "/proc/self/exe"
