package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	godaemon "github.com/sevlyar/go-daemon"
	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

const (
	// readyWord on the pipe tells the launcher that every first child is ready; anything else is the error.
	readyWord = "READY\n"
	// readyFD is the least descriptor of that pipe. It stays clear of those that go-daemon hands over.
	readyFD = 16
	// launchMargin is what the launcher waits beyond the time that all children may take, for the parent's own start.
	launchMargin = 5 * time.Second
	// maxLaunchError is how much of an error the launcher reads.
	maxLaunchError = 64 << 10
)

// launch starts the parent in a session of its own and returns when it is ready, or why it is not.
//
// Of go-daemon only Reborn is used: a second start of the same program with setsid. Its pidfile is unlinked by a
// failing second start and its descriptors leak into every child, so the lock and the pipe are ours.
func launch(cfg Config, environ []string) error {
	// What the shell left open here would stay open as long as the daemon lives.
	if err := inherit.CloseOnExec(); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	// A descriptor without close-on-exec survives go-daemon's start; the parent marks it at once.
	fd, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD, readyFD)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	claim := inherit.Claim{Role: inherit.Parent, Ready: fd}
	started, err := (&godaemon.Context{Env: append(environ, claim.Environ())}).Reborn()
	unix.Close(fd)
	w.Close()
	if err != nil && started == nil {
		return fmt.Errorf("cannot start the parent: %w", err)
	}

	exited := make(chan *os.ProcessState, 1)
	go func() {
		st, _ := started.Wait()
		exited <- st
	}()
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(r, maxLaunchError))
		said <- string(b)
	}()
	// Not all children start at once.
	rounds := (cfg.Prefork + parallelStarts() - 1) / parallelStarts()
	patience := time.Duration(rounds)*cfg.StartTimeout + launchMargin
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case text := <-said:
		switch {
		case text == readyWord:
			return nil
		case text == "":
			st := <-exited
			return fmt.Errorf("the parent ended before it was ready: %v", st)
		}
		<-exited // nothing is left when the launcher returns
		return errors.New(strings.TrimRight(text, "\n"))
	case <-limit.C:
		// Asked first, so that it takes its files away. It leads its session and its process group; children of a parent
		// that had to be killed see that it is gone and leave.
		unix.Kill(-started.Pid, unix.SIGTERM)
		select {
		case <-exited:
		case <-time.After(launchMargin):
			unix.Kill(-started.Pid, unix.SIGKILL)
			<-exited
		}
		return fmt.Errorf("the parent was not ready within %v and has been killed", patience)
	}
}

// A readyPipe is the parent's end of the pipe on which its launcher waits. The nil readyPipe belongs to a parent in the
// foreground.
type readyPipe struct{ f *os.File }

// takeReady finishes what go-daemon began, in the process that its Reborn has started.
func takeReady(claim inherit.Claim) (*readyPipe, error) {
	if claim.Role != inherit.Parent {
		return nil, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(claim.Ready, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, fmt.Errorf("descriptor %d is not a launcher's pipe: unset the environment variable %s", claim.Ready, inherit.Var)
	}
	unix.CloseOnExec(claim.Ready)
	p := &readyPipe{os.NewFile(uintptr(claim.Ready), "launcher")}
	// go-daemon knows by this variable that it is to finish; nobody else may see it.
	os.Setenv(godaemon.MARK_NAME, godaemon.MARK_VALUE)
	_, err := new(godaemon.Context).Reborn()
	os.Unsetenv(godaemon.MARK_NAME)
	if err != nil {
		return p, fmt.Errorf("cannot take over from the launcher: %w", err)
	}
	// Until the daemon is ready, a panic is an error of its start.
	debug.SetCrashOutput(p.f, debug.CrashOptions{})
	return p, nil
}

// errNotReady is what a launcher is told if its daemon stops before it is ready without an error of its own.
var errNotReady = errors.New("stopped before it was ready")

// waiting reports whether there is a launcher that has not been told anything yet.
func (p *readyPipe) waiting() bool { return p != nil && p.f != nil }

// say tells the launcher how it went, once.
func (p *readyPipe) say(err error) {
	if !p.waiting() {
		return
	}
	text := readyWord
	if err != nil {
		text = err.Error() + "\n"
	}
	// SIGPIPE has no say here: the launcher may have been interrupted, and the daemon goes on.
	if _, werr := io.WriteString(p.f, text); werr != nil && !errors.Is(werr, syscall.EPIPE) {
		fmt.Fprintln(os.Stderr, werr)
	}
	p.f.Close()
	p.f = nil
}

// launched reports an error of a parent's very first steps, before there is anything to undo.
func launched(claim inherit.Claim, err error) error {
	if p, perr := takeReady(claim); perr == nil {
		p.say(err)
	}
	return err
}
