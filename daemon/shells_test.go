package daemon_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/daemon"
)

// shells is a daemon whose jobs do what a line says and answer in a line of JSON. Its children write no events: they may
// be somebody who may not write there.
var shells = scenario("shells", func() daemon.Config {
	cfg := daemon.Config{
		Listen:             []string{"127.0.0.1:0"},
		Prefork:            2,
		OnClientDisconnect: daemon.KillChild,
	}
	if more := os.Getenv("LISTEN_TOO"); more != "" {
		cfg.Listen = append(cfg.Listen, more)
	}
	began, err := syscall.Getwd() // before Run, as a main does that is given relative paths
	began = said(began, err)
	var seen string
	cfg.ChildInit = func(*daemon.Child) error {
		seen = limitsSeen()
		return nil
	}
	cfg.MainLoop = func(ctx context.Context, c *daemon.Child) error {
		for conn := range c.Conns(ctx) {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			verb, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
			var text string
			switch verb {
			case "limits":
				text = seen
			case "began":
				text = began
			case "crash":
				os.Exit(3)
			case "hold":
				b, _ := json.Marshal(fmt.Sprint(os.Getpid()))
				conn.Write(append(b, '\n'))
				select {}
			default:
				text = try(verb, arg)
			}
			conn.Finish() // who leaves now has his answer
			b, _ := json.Marshal(text)
			conn.Write(append(b, '\n'))
		}
		return nil
	}
	return cfg
})

// try does what a child can do, or should not be able to.
func try(verb, arg string) string {
	switch verb {
	case "pid":
		return fmt.Sprint(os.Getpid())
	case "sh", "run":
		args := strings.Fields(arg)
		if verb == "sh" {
			args = []string{"sh", "-c", arg}
		}
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	case "read":
		b, err := os.ReadFile(arg)
		return said(string(b), err)
	case "env":
		env := os.Environ()
		slices.Sort(env)
		return strings.Join(env, "\n")
	case "fds":
		return strings.Join(openFiles(), "\n")
	case "mkfile":
		f, err := os.OpenFile(arg, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o666)
		if err == nil {
			f.Close()
		}
		return said("made", err)
	case "setuid": // this thread alone; none of the others could do more
		runtime.LockOSThread()
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
		return said("root", asError(errno))
	case "setgid":
		runtime.LockOSThread()
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0)
		return said("root", asError(errno))
	case "bind":
		l, err := net.Listen("tcp", arg)
		if err == nil {
			l.Close()
		}
		return said("bound", err)
	case "open":
		var all []*os.File
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				for _, f := range all {
					f.Close()
				}
				return fmt.Sprintf("%d %v", len(all), errors.Is(err, unix.EMFILE))
			}
			all = append(all, f)
		}
	}
	return "what?"
}

func asError(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func said(s string, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return s
}

// openFiles lists what this process has open but that list itself: number, target, and whether programs inherit it.
func openFiles() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return []string{err.Error()}
	}
	var all []string
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil {
			continue
		}
		var fd int
		fmt.Sscan(e.Name(), &fd)
		flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		all = append(all, fmt.Sprintf("%d %v %s", fd, flags&unix.FD_CLOEXEC != 0, to))
	}
	return all
}

// limitsSeen is what a process sees of its limits.
func limitsSeen() string {
	b, err := os.ReadFile("/proc/self/limits")
	return said(string(b), err)
}

// tell sends a line to a child and returns its answer.
func (s *site) tell(format string, args ...any) string {
	s.t.Helper()
	conn := s.dial("tcp4")
	defer conn.Close()
	return tellOn(s.t, conn, fmt.Sprintf(format, args...))
}

func tellOn(t testing.TB, conn net.Conn, line string) (text string) {
	t.Helper()
	answer := ask(t, conn, line)
	if err := json.Unmarshal([]byte(answer), &text); err != nil {
		t.Fatalf("%s: answered %q: %v", line, answer, err)
	}
	return text
}

// fields reads lines such as those of /proc/PID/status.
func fields(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			all[name] = strings.Join(strings.Fields(value), " ")
		}
	}
	return all
}

// statusOf is what the kernel says of a process.
func statusOf(t testing.TB, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return fields(string(b))
}
