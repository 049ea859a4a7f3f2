package doctor

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/scoreboard"
)

// leftovers looks for files of daemons that are gone: in the daemon's run directory, or else wherever run directories are.
func leftovers(s System, d Daemon) []Finding {
	dirs := []string{d.RunDir}
	if d.RunDir == "" {
		dirs = s.runDirs()
	}
	var found []Finding
	for _, dir := range dirs {
		found = append(found, s.leftIn(dir)...)
	}
	if len(found) == 0 {
		return one(OK, "leftovers", "", "no dead daemon has left files behind")
	}
	return found
}

// runDirs are directories in which daemons have files.
func (s System) runDirs() []string {
	var dirs []string
	for _, pattern := range []string{"run/*", "run/user/*/*", "tmp/*-" + strconv.Itoa(s.UserID)} {
		boards, _ := filepath.Glob(filepath.Join(s.path(pattern), control.BoardName))
		for _, b := range boards {
			dirs = append(dirs, filepath.Dir(b))
		}
	}
	return dirs
}

// leftIn looks into one run directory.
func (s System) leftIn(dir string) []Finding {
	board, err := scoreboard.Read(filepath.Join(dir, control.BoardName))
	id, pidErr := pidfile.Read(filepath.Join(dir, control.PIDName))
	_, sockErr := os.Lstat(filepath.Join(dir, control.SocketName))
	var left []string
	whose := "somebody unknown"
	switch {
	case err == nil:
		if s.lives(view.Parent(board.Identity)) {
			return nil
		}
		whose = logs.Escape(board.Name) + ", process " + strconv.Itoa(board.PID) + " of " + logs.Escape(board.Program)
		left = append(left, control.BoardName)
	case errors.Is(err, fs.ErrPermission):
		return one(Warn, "leftovers", "run brood doctor as root", "%s cannot be looked into: %v", dir, err)
	}
	if pidErr == nil {
		if s.lives(id) {
			return nil
		}
		if err != nil {
			whose = "process " + strconv.Itoa(id.PID)
		}
		left = append(left, control.PIDName)
	}
	if sockErr == nil {
		if err != nil && pidErr != nil && answers(filepath.Join(dir, control.SocketName)) {
			return nil // of a version whose files are not known here
		}
		left = append(left, control.SocketName)
	}
	if len(left) == 0 {
		return nil
	}
	return one(Warn, "leftovers", "start it again, which takes their place, or remove them",
		"%s has %s of %s, which is gone", dir, strings.Join(left, ", "), whose)
}

// answers reports whether somebody listens on a Unix socket, or may do so.
func answers(path string) bool {
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return !errors.Is(err, unix.ECONNREFUSED)
}

// lives reports whether that very process runs.
func (s System) lives(id pidfile.Identity) bool {
	boot, err := s.read(s.path("proc/sys/kernel/random/boot_id"))
	if err != nil || id.PID <= 0 || boot != id.BootID {
		return false
	}
	text, err := s.read(s.proc(id.PID, "stat"))
	if err != nil {
		return false
	}
	p, err := view.ParseStat([]byte(text))
	return err == nil && p.Start == id.Start && !p.Ended()
}
