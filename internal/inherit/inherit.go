// Package inherit is what one process of a daemon hands to the next: its role and its descriptors.
//
// The role travels in one environment variable, the descriptors at fixed numbers. Both are taken once, at the start,
// and every trace of them is removed, so that programs started by a job never mistake themselves for a part of the
// daemon.
package inherit

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Var is the environment variable that carries the role.
const Var = "BROOD"

// TreeVar is the environment variable that names the child under which a program was started. Unlike all others it stays
// in a child's environment: what a dead child's jobs have left behind is known by it.
const TreeVar = "BROOD_TREE"

// The descriptors of a child, by number.
const (
	ControlFD = 3 + iota // the control socket: end-of-file means that the parent has died
	BoardFD              // the scoreboard
	BellFD               // an eventfd that wakes the parent
	AccessFD             // the access log's pipe
	PapersFD             // what the children of this generation are to know
	ListenFD             // the first of the listeners
)

// The descriptors of a trial, by number.
const (
	AnswerFD = 3 // where the program says what it is
	StateFD  = 4 // what a parent that is about to become this program would hand over
)

// Speaks is the range of agreements on descriptors and messages that a program knows, the oldest and the newest. Parent and
// child, or a parent and its successor, may come from different builds of one program: they use the newest that both know.
// A number is raised whenever the meaning of the descriptors or of the messages changes.
type Speaks struct {
	Oldest uint64 `json:"oldest"`
	Newest uint64 `json:"newest"`
}

// Spoken is what this program speaks.
var Spoken = Speaks{oldest, newest}

// With returns the newest agreement that both know; 0: there is none.
func (s Speaks) With(o Speaks) uint64 {
	if n := min(s.Newest, o.Newest); n >= max(s.Oldest, o.Oldest) {
		return n
	}
	return 0
}

// A Role is which process of the daemon this one is.
type Role int

// The roles.
const (
	Launcher  Role = iota // started by a user or a service manager
	Parent                // started by a launcher
	Child                 // started by a parent
	Successor             // a parent that has executed a new program in its own place
	Trial                 // started by a parent to find out whether the program is one
)

// A Claim is what a process is told about itself by the one that started it. The zero Claim is that of a launcher.
type Claim struct {
	Role       Role
	Proto      uint64 // of a child: the agreement that its parent has chosen
	State      int    // of a successor, and of a trial for one: descriptor of what is handed over
	Papers     int    // of a child, and of a trial for one: descriptor of what it is to know
	Ready      int    // of a parent: descriptor of the pipe on which its launcher waits
	Slot       int    // of a child
	Generation uint64 // of a child
	Listeners  int    // of a child: number of listeners from ListenFD on
	Procs      bool   // of a child: GOMAXPROCS was put into its environment for it alone
	Kind       uint64 // of a child: a scoreboard.Kind
}

// Environ returns the variable with the claim, as NAME=value.
func (c Claim) Environ() string {
	switch c.Role {
	case Parent:
		return fmt.Sprintf("%s=parent:%d:%d", Var, newest, c.Ready)
	case Successor:
		return fmt.Sprintf("%s=successor:%d:%d", Var, newest, c.State)
	case Trial:
		return fmt.Sprintf("%s=trial:%d:%d:%d", Var, newest, c.State, c.Papers)
	case Child:
		procs := 0
		if c.Procs {
			procs = 1
		}
		proto := c.Proto
		if proto == 0 {
			proto = newest
		}
		return fmt.Sprintf("%s=child:%d:%d:%d:%d:%d:%d%s", Var, proto, c.Slot, c.Generation, c.Listeners, procs, c.Kind, more(proto))
	}
	return ""
}

var errClaim = errors.New("is not of this program's making; unset it")

func parse(s string) (Claim, error) {
	if s == "" {
		return Claim{}, nil
	}
	role, rest, _ := strings.Cut(s, ":")
	var n []uint64
	for _, f := range strings.Split(rest, ":") {
		v, err := strconv.ParseUint(f, 10, 31)
		if err != nil {
			return Claim{}, fmt.Errorf("environment variable %s=%q %w", Var, s, errClaim)
		}
		n = append(n, v)
	}
	known := n[0] >= oldest && n[0] <= newest
	switch {
	case role == "parent" && len(n) == 2 && n[0] == newest:
		return Claim{Role: Parent, Ready: int(n[1])}, nil
	case role == "successor" && len(n) == 2 && n[0] > 0: // of any age: the trial has shown that this works
		return Claim{Role: Successor, State: int(n[1])}, nil
	case role == "trial" && len(n) == 3 && n[0] > 0:
		return Claim{Role: Trial, State: int(n[1]), Papers: int(n[2])}, nil
	case role == "child" && known && len(n) == 6+strings.Count(more(n[0]), ":"):
		return Claim{
			Role: Child, Papers: PapersFD,
			Proto: n[0], Slot: int(n[1]), Generation: n[2], Listeners: int(n[3]), Procs: n[4] == 1, Kind: n[5],
		}, nil
	}
	if (role == "parent" || role == "child") && len(n) > 1 && !known {
		return Claim{}, fmt.Errorf("the parent is of another version of this toolkit (environment variable %s=%q): stop and start the daemon "+
			"instead of reloading it; if no daemon has started this program, it %w", Var, s, errClaim)
	}
	return Claim{}, fmt.Errorf("environment variable %s=%q %w", Var, s, errClaim)
}

// mark reports whether a variable gives a process a role, in this daemon or for another party's library.
func mark(name string) bool {
	return name == Var || name == TreeVar || name == "_GO_DAEMON" || name == "NOTIFY_SOCKET" || strings.HasPrefix(name, "LISTEN_") ||
		strings.HasPrefix(name, "WATCHDOG_")
}

// Peek returns the claim of this process for those who need it before it is taken.
func Peek() (Claim, error) { return parse(os.Getenv(Var)) }

// Take returns the claim of this process, what a service manager has told it, and the environment that the next process is to
// get, and removes every mark from this one's environment. A service manager speaks to the process that it has started: for a
// parent that a launcher has started, and for a child, the Service is zero.
//
// The returned environment keeps the BROOD_* settings, which a child's flags read; this process's own loses them too.
func Take() (Claim, Service, []string, error) {
	c, err := parse(os.Getenv(Var))
	var s Service
	if err == nil && c.Role == Launcher {
		s = readService()
	}
	next := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return mark(name) || name == "GOMAXPROCS" && c.Procs
	})
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if name == TreeVar && c.Role == Child {
			continue
		}
		if mark(name) || strings.HasPrefix(name, Var+"_") || name == "GOMAXPROCS" && c.Procs {
			os.Unsetenv(name)
		}
	}
	return c, s, next, err
}

// CloseOnExec marks every descriptor from 3 on, so that what this process inherited goes no further by accident.
func CloseOnExec() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	return os.NewSyscallError("close_range", err)
}

// Check reports whether the descriptors of a child are what they should be, so that a stray variable in somebody's
// environment ends in a clear error and not in writes to a stranger's files.
func (c Claim) Check() error {
	check := func(fd int, mode uint32, what string) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != mode {
			return fmt.Errorf("descriptor %d is not %s: environment variable %s %w", fd, what, Var, errClaim)
		}
		return nil
	}
	for _, w := range []struct {
		fd   int
		mode uint32
		what string
	}{
		{ControlFD, unix.S_IFSOCK, "a control socket"},
		{BoardFD, unix.S_IFREG, "a scoreboard"},
		{BellFD, 0, "a bell"},
		{AccessFD, unix.S_IFIFO, "an access log"},
		{PapersFD, unix.S_IFREG, "a memory file"},
	} {
		if err := check(w.fd, w.mode, w.what); err != nil {
			return err
		}
	}
	// After the listeners comes the program itself, which only the kernel needed.
	unix.Close(ListenFD + c.Listeners)
	// One by one: the number may be anything, and is not worth any memory before the descriptors are seen.
	for i := range c.Listeners {
		if err := check(ListenFD+i, unix.S_IFSOCK, "a listener"); err != nil {
			return err
		}
	}
	return nil
}

// TurnFD is the first of the descriptors with which a child takes turns with others, if its parent has told it of such: they
// come after the program.
func (c Claim) TurnFD() int { return ListenFD + c.Listeners + 1 }

// Dup duplicates a descriptor with close-on-exec set. It leaves the flags of the open file alone, unlike
// (*net.TCPListener).File and os/exec, which put a listener into blocking mode for every process that shares it.
func Dup(c interface {
	Control(func(fd uintptr)) error
}) (int, error) {
	fd := -1
	var derr error
	err := c.Control(func(old uintptr) {
		fd, derr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err == nil {
		err = os.NewSyscallError("fcntl", derr)
	}
	return fd, err
}
