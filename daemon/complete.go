package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

const (
	defaultPrefork       = 3
	defaultMaxChildren   = 150
	defaultMinSpare      = 1
	defaultIdleTimeout   = 60 * time.Second
	defaultMinChildAge   = 10 * time.Second
	defaultStartTimeout  = 10 * time.Second
	defaultSoak          = 2 * time.Second
	defaultUmask         = 0o027
	defaultDrainTimeout  = 5 * time.Minute
	defaultStopTimeout   = 30 * time.Second
	defaultKillGrace     = 2 * time.Second
	defaultLingerTimeout = 5 * time.Second

	defaultMaxDrainingGenerations = 4

	mostChildren = 4096
	leastHung    = 100 * time.Millisecond
)

// complete fills in the defaults and makes every path absolute. It is called before any change of directory.
func (cfg *Config) complete() error {
	if cfg.MainLoop == nil {
		return errors.New("no Config.MainLoop: a daemon needs work for its children")
	}
	if err := cfg.checkFile(); err != nil {
		return err
	}
	if cfg.Name == "" {
		cfg.Name = filepath.Base(os.Args[0])
	}
	if err := control.CheckName(cfg.Name); err != nil {
		return err
	}
	if err := cfg.completeNoFork(); err != nil {
		return err
	}
	setDefault(&cfg.Prefork, defaultPrefork)
	setDefault(&cfg.Pool, Dynamic)
	setDefault(&cfg.MaxChildren, max(defaultMaxChildren, cfg.Prefork))
	setDefault(&cfg.MinSpare, defaultMinSpare)
	setDefault(&cfg.IdleTimeout, defaultIdleTimeout)
	setDefault(&cfg.MinChildAge, defaultMinChildAge)
	setDefault(&cfg.Concurrency, 1)
	setDefault(&cfg.IdleEvery, time.Second)
	setDefault(&cfg.StartTimeout, defaultStartTimeout)
	setDefault(&cfg.Soak, defaultSoak)
	setDefault(&cfg.ClientTimeout, defaultClientTimeout)
	setDefault(&cfg.MaxDrainingGenerations, defaultMaxDrainingGenerations)
	setDefault(&cfg.MaxDrainingChildren, min(defaultMaxDrainingGenerations*cfg.MaxChildren, cfg.MaxChildren+64))
	setDefault(&cfg.Umask, defaultUmask)
	setDefault(&cfg.AutoReloadWhen, NotRoot)
	setDefault(&cfg.DrainTimeout, defaultDrainTimeout)
	setDefault(&cfg.StopTimeout, defaultStopTimeout)
	setDefault(&cfg.KillGrace, defaultKillGrace)
	setDefault(&cfg.LingerTimeout, defaultLingerTimeout)
	if cfg.OnClientDisconnect == nil {
		cfg.OnClientDisconnect = CancelJob
	}
	if _, err := cfg.accessRules(); err != nil {
		return err
	}
	if err := cfg.completeHalfClose(); err != nil {
		return err
	}
	if err := cfg.checkSize(); err != nil {
		return err
	}
	if err := cfg.Dequeue.complete(); err != nil {
		return err
	}
	if err := checkEnviron(cfg.Environ); err != nil {
		return err
	}
	for _, n := range []struct {
		name string
		n    int
	}{{"MaxDrainingGenerations", cfg.MaxDrainingGenerations}, {"MaxDrainingChildren", cfg.MaxDrainingChildren}} {
		if n.n < 1 {
			return fmt.Errorf("field %s is %d: want at least 1, or 0 for the default", n.name, n.n)
		}
	}
	if n := slotsFor(cfg); n > scoreboard.MaxSlots {
		return fmt.Errorf("fields MaxChildren, %d, MaxDrainingChildren, %d, and Dequeue.Max, %d, are too much together: "+
			"that takes %d slots, and there can be %d", cfg.MaxChildren, cfg.MaxDrainingChildren, cfg.Dequeue.Max, n, scoreboard.MaxSlots)
	}
	if cfg.HungAfter > 0 && cfg.HungAfter < leastHung {
		return fmt.Errorf("field HungAfter is %v: want at least %v, or 0 to ask nobody", cfg.HungAfter, leastHung)
	}
	if cfg.ClientTimeout > 0 && cfg.ClientTimeout < leastClientTimeout*time.Second {
		return fmt.Errorf("field ClientTimeout is %v: want at least %ds, 0 for the default, or a negative one to give up nobody",
			cfg.ClientTimeout, leastClientTimeout)
	}
	if cfg.Umask > 0o777 {
		return fmt.Errorf("field Umask is %#o: want an octal number up to 0777, or a negative one to leave it alone", cfg.Umask)
	}
	if w := cfg.AutoReloadWhen; w != NotRoot && w != Always && w != Never {
		return fmt.Errorf("field AutoReloadWhen is %q: want %q, %q or %q", w, NotRoot, Always, Never)
	}
	if cfg.MaxMemory < 0 {
		return fmt.Errorf("field MaxMemory is %d: want a number of bytes, or 0 for no limit", cfg.MaxMemory)
	}
	if cfg.Concurrency < 1 || cfg.Concurrency > 1<<20 {
		return fmt.Errorf("field Concurrency is %d: want 1 to %d jobs", cfg.Concurrency, 1<<20)
	}
	if cfg.MaxRequests < 0 {
		return fmt.Errorf("field MaxRequests is %d: want a number of jobs, or 0 for no limit", cfg.MaxRequests)
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"MaxAge", cfg.MaxAge}, {"HungAfter", cfg.HungAfter}, {"JobTimeout", cfg.JobTimeout},
		{"IdleTimeout", cfg.IdleTimeout}, {"IdleEvery", cfg.IdleEvery}, {"StartTimeout", cfg.StartTimeout},
		{"DrainTimeout", cfg.DrainTimeout}, {"StopTimeout", cfg.StopTimeout}, {"LingerTimeout", cfg.LingerTimeout},
		{"MinReloadInterval", cfg.MinReloadInterval},
	} {
		if d.d < 0 {
			return fmt.Errorf("field %s is %v: want a positive duration, or 0 for the default", d.name, d.d)
		}
	}
	if err := cfg.completeListen(); err != nil {
		return err
	}
	cfg.AutoReload.Dirs, cfg.AutoReload.Files = slices.Clone(cfg.AutoReload.Dirs), slices.Clone(cfg.AutoReload.Files)
	for _, paths := range [][]string{cfg.AutoReload.Dirs, cfg.AutoReload.Files} {
		for i := range paths {
			if err := cfg.absolute(&paths[i]); err != nil {
				return err
			}
		}
	}
	if cfg.Dir == "" && cfg.Daemonize {
		cfg.Dir = "/"
	}
	if cfg.RunDir == "" {
		cfg.RunDir = control.RunDir(cfg.Name)
	}
	if err := cfg.absolute(&cfg.Dir, &cfg.RunDir); err != nil {
		return err
	}
	if cfg.PIDFile == "" {
		cfg.PIDFile = filepath.Join(cfg.RunDir, control.PIDName)
	}
	if err := cfg.completeSerialize(); err != nil {
		return err
	}
	switch {
	case cfg.ErrorLog == "" && cfg.Daemonize:
		cfg.ErrorLog = filepath.Join(cfg.RunDir, "error.log")
	case cfg.ErrorLog == "":
		cfg.ErrorLog = "-"
	case cfg.ErrorLog == "-" && cfg.Daemonize:
		return errors.New(`field ErrorLog is "-" with Daemonize: a daemon in the background has no standard error, name a file`)
	}
	if cfg.AccessLog == "-" && cfg.Daemonize {
		return errors.New(`field AccessLog is "-" with Daemonize: a daemon in the background has no standard output, name a file`)
	}
	if err := cfg.AccessFormat.complete(); err != nil {
		return err
	}
	if err := cfg.LogFormat.complete(); err != nil {
		return err
	}
	switch {
	case cfg.LogLevel != "":
	case cfg.Logger != nil:
		cfg.LogLevel = "debug"
	default:
		cfg.LogLevel = "info"
	}
	if _, err := parseLevel(cfg.LogLevel); err != nil {
		return fmt.Errorf("field LogLevel: %w", err)
	}
	return cfg.absolute(&cfg.PIDFile, &cfg.ErrorLog, &cfg.AccessLog)
}

// checkSize reports numbers of children that contradict each other.
func (cfg *Config) checkSize() error {
	switch {
	case cfg.Pool != Dynamic && cfg.Pool != Static && cfg.Pool != OnDemand:
		return fmt.Errorf("field Pool is %q: want %q, %q or %q", cfg.Pool, Dynamic, Static, OnDemand)
	case cfg.Prefork < 1 || cfg.Prefork > mostChildren:
		return fmt.Errorf("field Prefork is %d: want 1 to %d children", cfg.Prefork, mostChildren)
	case cfg.MaxChildren < cfg.Prefork || cfg.MaxChildren > mostChildren:
		return fmt.Errorf("field MaxChildren is %d: want %d (Prefork) to %d", cfg.MaxChildren, cfg.Prefork, mostChildren)
	case cfg.MinSpare < 1 || cfg.MinSpare > cfg.MaxChildren:
		return fmt.Errorf("field MinSpare is %d: want 1 to %d (MaxChildren)", cfg.MinSpare, cfg.MaxChildren)
	case cfg.MaxSpare != 0 && cfg.MaxSpare < cfg.MinSpare:
		return fmt.Errorf("field MaxSpare is %d, which is less than MinSpare, %d: the pool would grow and shrink without end",
			cfg.MaxSpare, cfg.MinSpare)
	}
	return nil
}

// What the parent holds open for each child, and for itself; and about how many threads a child and the parent have.
const (
	openPerChild    = 6
	openForSelf     = 128
	threadsPerChild = 8
	threadsForSelf  = 24
)

// allowed reports whether this user may be the parent.
func (cfg *Config) allowed() error {
	if cfg.RequireRoot && os.Geteuid() != 0 {
		return fmt.Errorf("%s must be started by root, not by user %d", cfg.Name, os.Geteuid())
	}
	return nil
}

// fit sees whether the system allows as many children, with those that a step of a reload adds and one that drains. A number that
// nobody has asked for is lowered, which the log is told; for one that somebody has asked for the error says what to do. How many
// may drain is always lowered: when a reload needs room, the oldest of them make it. The limit on processes is one on threads, of which
// nobody knows how many there will be: what it is likely to be enough for is an error for nobody.
func (cfg *Config) fit(otherUser, asked bool) (corrections []string, err error) {
	type bound struct {
		resource  int
		of        string
		processes func(limit uint64) (surely, likely uint64)
	}
	each := func(limit, forSelf, perChild uint64) uint64 { return max(limit, forSelf)/perChild - forSelf/perChild }
	bounds := []bound{{unix.RLIMIT_NOFILE, "on open files (ulimit -n)", func(limit uint64) (surely, likely uint64) {
		n := each(limit, openForSelf, openPerChild)
		return n, n
	}}}
	if os.Geteuid() != 0 || otherUser { // root is not bound by it (setrlimit(2))
		bounds = append(bounds, bound{unix.RLIMIT_NPROC, "on processes of one user (ulimit -u)", func(limit uint64) (surely, likely uint64) {
			return limit, each(limit, threadsForSelf, threadsPerChild)
		}})
	}
	// Of so many processes that there may be, of a step, and of one that drains, there is room for all.
	fitting := func(room int) int { return max(0, min((room-1)*10/11, room-2)) }
	for _, b := range bounds {
		var limit unix.Rlimit
		if unix.Getrlimit(b.resource, &limit) != nil {
			continue
		}
		surely, likely := b.processes(limit.Cur)
		room := int(min(surely, 2*scoreboard.MaxSlots)) - cfg.Dequeue.Max
		most, wise := fitting(room), fitting(int(min(likely, 2*scoreboard.MaxSlots))-cfg.Dequeue.Max)
		switch {
		case wise >= cfg.MaxChildren:
		case most < cfg.MaxChildren && asked, most < cfg.Prefork:
			return nil, fmt.Errorf("field MaxChildren is %d, but the limit %s, %d, is enough for %d: raise it or lower MaxChildren",
				cfg.MaxChildren, b.of, limit.Cur, most)
		case asked:
			corrections = append(corrections, fmt.Sprintf("MaxChildren is %d, and the limit %s, %d, which counts threads, is enough for %d or so",
				cfg.MaxChildren, b.of, limit.Cur, wise))
		default:
			cfg.MaxChildren = min(most, max(wise, cfg.Prefork, cfg.MinSpare))
			corrections = append(corrections, fmt.Sprintf("at most %d children: the limit %s is %d", cfg.MaxChildren, b.of, limit.Cur))
		}
		if most = room - cfg.MaxChildren - rollStep(cfg.MaxChildren); most < cfg.MaxDrainingChildren {
			cfg.MaxDrainingChildren = most
			corrections = append(corrections, fmt.Sprintf("at most %d children of old generations: the limit %s is %d", most, b.of, limit.Cur))
		}
	}
	if cfg.MinSpare > cfg.MaxChildren {
		return nil, fmt.Errorf("field MinSpare is %d, but there can be no more than %d children", cfg.MinSpare, cfg.MaxChildren)
	}
	return corrections, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// absolute makes paths absolute that are not, from where the daemon was started.
func (cfg *Config) absolute(paths ...*string) error {
	for _, p := range paths {
		if *p == "" || *p == "-" {
			continue
		}
		path := *p
		if s := cfg.settings; s != nil && s.dir != "" && !filepath.IsAbs(path) {
			path = filepath.Join(s.dir, path) // the parent of a reload is elsewhere by now
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("%s: %w", *p, err)
		}
		*p = abs
	}
	return nil
}

// procs is the GOMAXPROCS that a child is started with. Kept connections stay where they were accepted, so one child may have twice the
// work of another; with no more than its share it would leave processors idle that nobody else has work for.
func (cfg *Config) procs() int {
	if cfg.Concurrency == 1 {
		return 1
	}
	share := (processors() + cfg.Prefork - 1) / cfg.Prefork
	return max(1, min(2*share, processors()))
}

// processors is how many processors this process may use: GOMAXPROCS follows the container's quota (since Go 1.25), the
// number of processors in the machine does not.
func processors() int { return runtime.GOMAXPROCS(0) }
