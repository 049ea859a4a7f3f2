package control

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Names of the files in a run directory.
const (
	SocketName = "control"
	BoardName  = "scoreboard"
	PIDName    = "pid"
)

// CheckName reports whether a daemon's name can be used in paths.
func CheckName(name string) error {
	if name == "" || len(name) > 64 || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") {
		return fmt.Errorf("name %q: want 1 to 64 letters, digits, '.', '_' or '-', not beginning with '.' or '-'", name)
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-') {
			return fmt.Errorf("name %q: %q is not a letter, digit, '.', '_' or '-'", name, r)
		}
	}
	return nil
}

// RunDir returns the run directory of the daemon with this name: /run/NAME for root, else $XDG_RUNTIME_DIR/NAME, else
// NAME-UID under the system's temporary directory.
func RunDir(name string) string {
	uid := os.Geteuid()
	if uid == 0 {
		return filepath.Join("/run", name)
	}
	if x := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(x) {
		return filepath.Join(x, name)
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("%s-%d", name, uid))
}

// MakeDir makes the run directory with mode 0700, if it is not there, and refuses one that somebody else could write
// to: its contents are believed.
func MakeDir(dir string) error {
	dir = filepath.Clean(dir) // with a slash at its end a symbolic link would be followed
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return fmt.Errorf("run directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("run directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("run directory %s is not a directory", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("run directory %s belongs to user %d, not to user %d who starts the daemon", dir, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return fmt.Errorf("run directory %s can be written by others (mode %#o): chmod 0700 it or use another", dir, st.Mode&0o7777)
	}
	return nil
}
