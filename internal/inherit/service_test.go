package inherit

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Told is what a process finds out about its service manager, and whether a program that it starts would inherit what was
// given to it.
type Told struct {
	Socket   string
	Watchdog time.Duration
	Given    []Given
	Err      string
	Leaks    bool
}

func serviceRole(string) error {
	_, s, _, _ := Take()
	got := Told{Socket: s.Socket, Watchdog: s.Watchdog, Given: s.Given}
	for _, g := range s.Given {
		flags, err := unix.FcntlInt(uintptr(g.FD), unix.F_GETFD, 0)
		got.Leaks = got.Leaks || err != nil || flags&unix.FD_CLOEXEC == 0
	}
	if s.Err != nil {
		got.Err = s.Err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// What a service manager says to a process is known to that process alone: neither to one that was started by it, nor to a
// child of the daemon, nor to one whose number is another.
func TestService(t *testing.T) { // B7
	const me, other = "$$", "1"
	file, err := os.Open(os.DevNull)
	must(t, err)
	defer file.Close()
	program, err := os.Executable()
	must(t, err)
	two := []Given{{3, ""}, {4, ""}}
	for _, c := range []struct {
		env  string // $$ is the process's own number
		want Told
		errs []string
	}{
		{"", Told{}, nil},
		{"NOTIFY_SOCKET=/run/n", Told{Socket: "/run/n"}, nil},
		{"NOTIFY_SOCKET=@n WATCHDOG_USEC=30000000", Told{Socket: "@n", Watchdog: 30 * time.Second}, nil},
		{"WATCHDOG_USEC=1 WATCHDOG_PID=" + me, Told{Watchdog: time.Microsecond}, nil},
		{"WATCHDOG_USEC=1 WATCHDOG_PID=" + other, Told{}, nil},
		{"WATCHDOG_USEC=x WATCHDOG_PID=" + other, Told{}, nil},
		{"WATCHDOG_PID=" + me, Told{}, nil},
		{"WATCHDOG_USEC=0", Told{}, []string{`WATCHDOG_USEC="0" is no time`}},
		{"WATCHDOG_USEC=-1", Told{}, []string{`WATCHDOG_USEC="-1" is no time`}},
		{"WATCHDOG_USEC=9223372036854775", Told{Watchdog: 9223372036854775 * time.Microsecond}, nil},
		{"WATCHDOG_USEC=9223372036854776", Told{}, []string{"is no time"}},
		{"LISTEN_FDS=2 LISTEN_PID=" + me, Told{Given: two}, nil},
		{"LISTEN_FDS=0 LISTEN_PID=" + me, Told{}, nil},
		{"LISTEN_FDS=2 LISTEN_PID=" + other, Told{}, nil},
		{"LISTEN_FDS=2", Told{}, nil},
		{"LISTEN_PID=" + me, Told{}, nil},
		{"LISTEN_FDS=2 LISTEN_FDNAMES=a:b LISTEN_PID=" + me, Told{Given: []Given{{3, "a"}, {4, "b"}}}, nil},
		{"LISTEN_FDS=1 LISTEN_FDNAMES=a.socket LISTEN_PID=" + me, Told{Given: []Given{{3, "a.socket"}}}, nil},
		{"LISTEN_FDS=2 LISTEN_FDNAMES=: LISTEN_PID=" + me, Told{Given: two}, nil},
		{"LISTEN_FDS=2 LISTEN_FDNAMES=a LISTEN_PID=" + me, Told{Given: two}, []string{`LISTEN_FDNAMES="a" does not name 2`}},
		{"LISTEN_FDS=2000000000 LISTEN_PID=" + me, Told{Given: two}, []string{"counts descriptor 5, which has not"}},
		{"LISTEN_FDS=99999999999 LISTEN_FDNAMES=a LISTEN_PID=" + me, Told{}, []string{"is no number of descriptors"}},
		{"LISTEN_FDS=-1 WATCHDOG_USEC=x LISTEN_PID=" + me, Told{}, []string{"WATCHDOG_USEC", "LISTEN_FDS"}},
		{"BROOD=parent:5:64 NOTIFY_SOCKET=/n WATCHDOG_USEC=5 LISTEN_FDS=2 LISTEN_PID=" + me, Told{}, nil},
		{"BROOD=child:3:0:1:0:0:0 NOTIFY_SOCKET=/n WATCHDOG_USEC=5 LISTEN_FDS=2 LISTEN_PID=" + me, Told{}, nil},
		{"BROOD=nonsense NOTIFY_SOCKET=/n WATCHDOG_USEC=5 LISTEN_FDS=2 LISTEN_PID=" + me, Told{}, nil},
	} {
		cmd := exec.Command("/bin/sh", "-c", "exec env "+c.env+` "$0" x`, program)
		cmd.Env = []string{roleVar + "=service", "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH")}
		cmd.Stderr = os.Stderr
		cmd.ExtraFiles = []*os.File{file, file}
		var got Told
		answer(t, cmd, &got)
		text := got.Err
		got.Err = ""
		if diff := cmp.Diff(c.want, got); diff != "" || (text != "") != (c.errs != nil) {
			t.Errorf("%s: want (-) against got (+), error %q:\n%s", c.env, text, diff)
		}
		for _, want := range c.errs {
			if !strings.Contains(text, want) {
				t.Errorf("%s: error %q, want %q in it", c.env, text, want)
			}
		}
	}
}
