package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/conffile"
	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/internal/logs"
)

// An answer is what a program says of itself on trial.
type answer struct {
	Speaks inherit.Speaks `json:"speaks"`
	Error  string         `json:"error,omitempty"`  // why it would not come up
	Config *configText    `json:"config,omitempty"` // of a successor: the configuration file that it has read
}

// maxAnswer is how much of an answer is read: more than an error and a configuration file can be, written as JSON.
const maxAnswer = 64<<10 + 6*conffile.MaxSize

// runTrial is the life of a program on trial: it has come as far as Run, says whether it could go on, and goes.
func runTrial(cfg Config, claim inherit.Claim) {
	a := answer{Speaks: inherit.Spoken}
	p := &Parent{asked: cfg.MaxChildren != 0}
	err := cfg.begin()
	if err == nil {
		err = cfg.settings.blamed(cfg.complete())
	}
	if err == nil && claim.State != 0 {
		err = cfg.allowed()
	}
	if err == nil && claim.State != 0 && cfg.settings != nil && cfg.settings.file != nil {
		a.Config = cfg.settings.file
		err = cfg.settings.trusted()
	}
	if err == nil && claim.State != 0 {
		if p.handed, err = readHandover(claim.State); err == nil {
			p.cfg = cfg
			_, err = p.settle()
		}
		if err == nil {
			err = p.tryListen()
		}
	}
	if err != nil {
		a.Error = err.Error()
	}
	if err := json.NewEncoder(os.NewFile(inherit.AnswerFD, "answer")).Encode(a); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitFailed)
	}
	os.Exit(exitFine)
}

// A trial is a run of a program that is to find out whether it is one of this toolkit that gets as far as Run.
type trial struct {
	pid    int
	pidfd  *os.File
	answer *os.File
	output *os.File
}

// startTrial executes a program on trial: as a child would be, or, with what is handed over, as a successor.
func (p *Parent) startTrial(prog *program, state *os.File) (_ *trial, err error) {
	var ours, theirs []*os.File
	closeAll := func(files []*os.File) {
		for _, f := range files {
			f.Close()
		}
	}
	defer func() {
		closeAll(theirs)
		if err != nil {
			closeAll(ours)
		}
	}()
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		ours, theirs = append(ours, r), append(theirs, w)
	}
	claim := inherit.Claim{Role: inherit.Trial}
	files := []uintptr{uintptr(p.null), theirs[1].Fd(), theirs[1].Fd(), inherit.AnswerFD: theirs[0].Fd()}
	env, dir := p.inherited, p.startDir
	pidfd := -1
	// One that hangs ends with this parent: with this thread, to which the caller is locked.
	attr := &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd, Pdeathsig: unix.SIGKILL}
	switch {
	case state != nil:
		claim.State = inherit.StateFD
		files = append(files, state.Fd())
	default:
		env = prog.terms.environ
		attr.Credential = p.identity.credential()
		if p.identity != nil {
			dir = "" // this thread's
		}
		claim.Papers = len(files)
		files = append(files, uintptr(prog.papers))
	}
	// The program is the last of them: at its own number another one could be moved over it before it is executed.
	files = append(files, uintptr(prog.fd))
	env = append(env[:len(env):len(env)], claim.Environ())
	pid, err := forkExec(procFD(len(files)-1), &syscall.ProcAttr{Dir: dir, Env: env, Files: files, Sys: attr})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.program, err)
	}
	return &trial{pid, os.NewFile(uintptr(pidfd), "pidfd"), ours[0], ours[1]}, nil
}

// verdict waits for the answer.
func (t *trial) verdict(within time.Duration) (answer, error) {
	defer t.pidfd.Close()
	defer t.answer.Close()
	defer t.output.Close()
	late := time.AfterFunc(within, func() { unix.Kill(-t.pid, unix.SIGKILL) })
	printed := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(t.output, logs.MaxLine))
		printed <- strings.TrimRight(string(b), "\n")
	}()
	// It exits when it has answered; what it has started goes with it, but for what has left its process group, which may hold
	// the pipes.
	exited := make(chan struct{})
	go func() {
		for unix.Waitid(unix.P_PID, t.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
		t.answer.SetReadDeadline(time.Now().Add(lastWords))
		close(exited)
	}()
	var a answer
	err := json.NewDecoder(io.LimitReader(t.answer, maxAnswer)).Decode(&a)
	<-exited
	var ws syscall.WaitStatus
	inTime := late.Stop()
	unix.Kill(-t.pid, unix.SIGKILL)
	for {
		if _, werr := syscall.Wait4(t.pid, &ws, 0, nil); werr != syscall.EINTR {
			break
		}
	}
	if err == nil {
		return a, nil
	}
	how := describe(ws) + " without an answer"
	if !inTime {
		how = fmt.Sprintf("no answer within %v", within)
	}
	text := ""
	select {
	case text = <-printed:
	case <-time.After(lastWords): // somebody has taken the pipe with him
	}
	if text != "" {
		how += ": " + text
	}
	return answer{}, errors.New(how)
}

// examine puts a program on trial, and reports whether it is fit to be executed by this parent. It returns the configuration file that
// the program has read; nil: it has been given one, or there is none.
func (p *Parent) examine(prog *program, start func() (*trial, error)) (*configText, error) {
	t, err := start()
	if err != nil {
		return nil, err
	}
	a, err := t.verdict(prog.terms.cfg.StartTimeout)
	switch {
	case err != nil:
		return nil, fmt.Errorf("program failed its trial: %w", err)
	case a.Error != "":
		return nil, fmt.Errorf("program failed its trial: %s", a.Error)
	case a.Speaks.With(inherit.Spoken) == 0:
		return nil, fmt.Errorf("program failed its trial: it speaks agreement %d to %d, and this parent %d to %d: stop and start the daemon",
			a.Speaks.Oldest, a.Speaks.Newest, inherit.Spoken.Oldest, inherit.Spoken.Newest)
	}
	prog.speaks = a.Speaks
	return a.Config, nil
}

// tryChild puts a program on trial as a child would be started.
func (s *spawner) tryChild(prog *program) error {
	_, err := s.p.examine(prog, func() (*trial, error) {
		type started struct {
			t   *trial
			err error
		}
		got := make(chan started, 1)
		job := func(broken error) {
			t, err := (*trial)(nil), broken
			if err == nil {
				t, err = s.p.startTrial(prog, nil)
			}
			got <- started{t, err}
		}
		select {
		case s.jobs <- spawnJob{trial: job}:
		case <-s.p.done:
			return nil, errors.New("the daemon has stopped")
		}
		select {
		case st := <-got:
			return st.t, st.err
		case <-s.p.done:
			return nil, errors.New("the daemon has stopped")
		}
	})
	return err
}
