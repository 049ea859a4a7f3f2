package reload

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	defaultSettle    = 300 * time.Millisecond
	defaultMaxSettle = 10 * time.Second
	defaultPoll      = 5 * time.Second
)

// alwaysIgnored are the names that editors, version control and the go command make for themselves.
var alwaysIgnored = []string{
	".git", ".hg", ".svn", ".jj",
	"*~", ".#*", "#*#", // backups, Emacs locks and autosaves
	"4913", "*.swp", "*.swo", "*.swn", "*.swx", "*.swpx", // vim: its test for a writable directory, its swap files
	"*___jb_tmp___", "*___jb_old___", // JetBrains "safe write"
	".goutputstream-*", // GNOME
	".nfs*",            // an open file that was removed on NFS
	"*-go-tmp-umask",   // go build finds out the umask with it
}

// Set says which files to watch and how patiently. It is a plain value: nothing is opened, read or resolved
// until Open. The zero Set watches nothing.
type Set struct {
	// Files are single files, usually programs. They are hashed whatever their size; the executable bits count; one
	// that is executable is not reported while somebody has it open for writing. Relative paths are taken from the
	// current directory when Open is called. Each must exist then. Ignore and IgnorePaths do not apply to them.
	Files []string

	// Dirs are whole trees, watched recursively. Each must exist when Open is called.
	Dirs []string

	// Ignore are more patterns for names in Dirs that are never looked at, matched by path/filepath.Match against the
	// last element of the path. They are added to a built-in list (.git, *~, .#*, 4913, *.swp, *-go-tmp-umask and
	// the like). A directory that matches is skipped with all that is in it. A malformed pattern is an error of Open.
	Ignore []string

	// IgnorePaths are files or directories in Dirs that are never looked at: the program's own logs, its pid file,
	// its run directory. They need not exist. Empty strings are skipped, so that unset options can be passed on.
	IgnorePaths []string

	// Settle is how long no event may come before the files are compared. Zero means 300 ms. Negative is an error.
	Settle time.Duration

	// MaxSettle is how long after the first event the files are compared at the latest, though events keep coming.
	// Zero means 10 s; less than Settle means Settle. Negative is an error. A file that is still being
	// written is held back all the same.
	MaxSettle time.Duration

	// Poll is how often the files are compared though no event came, for file systems that send none. Zero means
	// 5 s. Negative means no poll, except that a Set which inotify cannot serve is polled every 5 s all the same.
	Poll time.Duration

	// Self adds the running program to Files, under the path that Program returns when Open is called: call Open before
	// any chdir, or call Program before and put the result into Files. What is compared with is the program
	// that runs, not what lies at the path: one replaced before Open is reported.
	Self bool

	// Logger gets warnings, each kind at most once for each Watcher (file still open for writing: once for each
	// change). Nil means that they are discarded.
	Logger *slog.Logger
}

// Self returns a Set that watches the running program.
func Self() Set { return Set{Self: true} }

// Dirs returns a Set that watches whole trees.
func Dirs(paths ...string) Set { return Set{Dirs: slices.Clone(paths)} }

// Files returns a Set that watches single files.
func Files(paths ...string) Set { return Set{Files: slices.Clone(paths)} }

// IsZero reports whether the Set watches nothing, whatever its other fields say.
func (s Set) IsZero() bool { return len(s.Files) == 0 && len(s.Dirs) == 0 && !s.Self }

// plan is a Set with the defaults filled in and every path absolute, so that a later chdir cannot matter.
type plan struct {
	files       []string
	dirs        []string
	self        string // the one of files that is the running program, or ""
	ignore      []string
	ignorePaths map[string]bool
	settle      time.Duration
	maxSettle   time.Duration
	poll        time.Duration
	log         *slog.Logger
}

func (s Set) plan() (*plan, error) {
	p := &plan{
		ignore:      slices.Concat(alwaysIgnored, s.Ignore),
		ignorePaths: make(map[string]bool),
		settle:      s.Settle,
		maxSettle:   s.MaxSettle,
		poll:        s.Poll,
		log:         s.Logger,
	}
	if s.Settle < 0 || s.MaxSettle < 0 {
		return nil, errors.New("reload: Settle and MaxSettle must not be negative")
	}
	if p.settle == 0 {
		p.settle = defaultSettle
	}
	if p.maxSettle == 0 {
		p.maxSettle = defaultMaxSettle
	}
	p.maxSettle = max(p.maxSettle, p.settle)
	if p.poll == 0 {
		p.poll = defaultPoll
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	for _, pattern := range s.Ignore {
		if _, err := filepath.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("reload: Ignore %q: %w", pattern, err)
		}
	}
	if err := p.place(s); err != nil {
		return nil, err
	}
	return p, nil
}

// place makes the paths absolute and checks that they are there.
func (p *plan) place(s Set) error {
	for _, path := range s.Files {
		abs, mode, err := locate(path)
		switch {
		case err != nil:
			return err
		case mode.IsDir():
			return fmt.Errorf("reload: watch %s: is a directory, which belongs into Dirs", abs)
		case !mode.IsRegular():
			return fmt.Errorf("reload: watch %s: not a regular file", abs)
		}
		p.files = append(p.files, abs)
	}
	for _, path := range s.Dirs {
		abs, mode, err := locate(path)
		switch {
		case err != nil:
			return err
		case !mode.IsDir():
			return fmt.Errorf("reload: watch %s: not a directory, which belongs into Files", abs)
		}
		p.dirs = append(p.dirs, abs)
	}
	for _, path := range s.IgnorePaths {
		if path == "" {
			continue
		}
		abs, err := absolute(path)
		if err != nil {
			return err
		}
		p.ignorePaths[abs] = true
		// The same file by its real name, for roots that are given by their real names.
		if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
			p.ignorePaths[filepath.Join(dir, filepath.Base(abs))] = true
		}
	}
	if s.Self {
		// Not checked: the program may be in the moment between unlink and create.
		path, err := Program()
		if err != nil {
			return err
		}
		p.self = path
		p.files = append(p.files, path)
	}
	slices.Sort(p.files)
	p.files = slices.Compact(p.files)
	slices.Sort(p.dirs)
	p.dirs = slices.Compact(p.dirs)
	return nil
}

// ignored says whether an entry below a root is never looked at. shown is its path below the root as it was
// given, real the path with all links resolved.
func (p *plan) ignored(shown, real string) bool {
	name := filepath.Base(shown)
	for _, pattern := range p.ignore {
		if ok, _ := filepath.Match(pattern, name); ok {
			return true
		}
	}
	return p.ignorePaths[shown] || p.ignorePaths[real]
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", errors.New("reload: empty path")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("reload: watch %s: %w", path, err)
	}
	return abs, nil
}

func locate(path string) (string, fs.FileMode, error) {
	abs, err := absolute(path)
	if err != nil {
		return "", 0, err
	}
	info, err := os.Stat(abs)
	if err != nil {
		// The error of Stat already names the path.
		return "", 0, fmt.Errorf("reload: watch: %w", err)
	}
	return abs, info.Mode(), nil
}
