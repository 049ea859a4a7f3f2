package inherit

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// listenFD is the first descriptor that a service manager hands over (sd_listen_fds(3)).
const listenFD = 3

// A Service is what a service manager tells the process that it has started. The zero Service is that of a process which
// was started by somebody else.
type Service struct {
	Socket   string        // where it wants to be told how the daemon is (sd_notify(3)); empty: nowhere
	Watchdog time.Duration // within which it wants a sign of life, again and again (sd_watchdog_enabled(3)); 0: it does not
	Given    []Given       // descriptors that it has opened or kept, close-on-exec from now on
	Err      error         // what it has said that makes no sense; the rest stands
}

// A Given is a descriptor that a service manager has handed over.
type Given struct {
	FD   int
	Name string // "" if it has none
}

// readService reads what the environment holds for this very process. Whatever is meant for another one counts as not there.
func readService() Service {
	s := Service{Socket: os.Getenv("NOTIFY_SOCKET")}
	var errs []error
	wrong := func(name, format string, args ...any) {
		errs = append(errs, fmt.Errorf("environment variable %s=%q %s", name, os.Getenv(name), fmt.Sprintf(format, args...)))
	}
	me := strconv.Itoa(os.Getpid())
	if usec, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"); usec != "" && (pid == "" || pid == me) {
		n, err := strconv.ParseUint(usec, 10, 64)
		if err != nil || n == 0 || n > math.MaxInt64/uint64(time.Microsecond) {
			wrong("WATCHDOG_USEC", "is no time in microseconds: there is no watchdog")
		} else {
			s.Watchdog = time.Duration(n) * time.Microsecond
		}
	}
	if count := os.Getenv("LISTEN_FDS"); count != "" && os.Getenv("LISTEN_PID") == me {
		var names []string
		n, err := strconv.ParseUint(count, 10, 31)
		if err != nil {
			wrong("LISTEN_FDS", "is no number of descriptors: none is used")
			n = 0
		}
		if list := os.Getenv("LISTEN_FDNAMES"); list != "" && err == nil {
			if names = strings.Split(list, ":"); len(names) != int(n) {
				wrong("LISTEN_FDNAMES", "does not name %d descriptors: they have no names", n)
				names = nil
			}
		}
		for i := range int(n) {
			fd := listenFD + i
			// One that closes on exec cannot have been handed over: it is of this process's own making.
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
				wrong("LISTEN_FDS", "counts descriptor %d, which has not been handed over", fd)
				break
			}
			unix.CloseOnExec(fd)
			g := Given{FD: fd}
			if names != nil {
				g.Name = names[i]
			}
			s.Given = append(s.Given, g)
		}
	}
	s.Err = errors.Join(errs...)
	return s
}
