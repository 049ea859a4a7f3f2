package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/internal/tree"
	"github.com/brooddaemon/brood/reload"
	"github.com/brooddaemon/brood/scoreboard"
)

// begin acquires what the daemon needs before its first child, in an order in which each step is guarded by the one
// before: the lock first.
func (p *Parent) begin() (err error) {
	if p.startDir, err = os.Getwd(); err != nil {
		p.startDir = "/"
	}
	if p.program, err = reload.Program(); err != nil {
		return fmt.Errorf("cannot find the running program: %w", err)
	}
	if h := p.handed; h != nil {
		p.startDir, p.program = h.StartDir, h.Program
	}
	if p.self, err = pidfile.Self(); err != nil {
		return err
	}
	warnings, err := p.settle()
	if err != nil {
		return p.cfg.settings.blamed(err)
	}
	if p.cfg.Umask >= 0 {
		unix.Umask(p.cfg.Umask)
	}
	if err := p.lock(); err != nil {
		return err
	}
	if err := p.openLogs(); err != nil {
		return err
	}
	for _, w := range warnings {
		p.log.Warn(w)
	}
	if s := p.cfg.settings; s != nil && s.file != nil {
		p.log.Info("configuration file read", "file", s.file.Path)
		if err := s.trusted(); err != nil {
			p.log.Warn(untrustedConfig, "err", err)
		}
	}
	if err := tree.Subreaper(); err != nil {
		return err
	}
	p.findGroup()
	var left []string
	p.environ, left = buildEnviron(p.environ, p.cfg.Environ, os.Geteuid() == 0, p.identity)
	if len(left) > 0 && !p.cfg.NoFork {
		p.log.Info("children do not get these environment variables; Config.Environ lets them through", "names", strings.Join(left, " "))
	}
	p.agree(warnings)
	if p.null, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0); err != nil {
		return fmt.Errorf("%s: %w", os.DevNull, err)
	}
	p.onExit(func() { unix.Close(p.null) })
	if p.handed != nil {
		p.bell = p.handed.Bell
	} else if p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	p.onExit(func() { unix.Close(p.bell) })
	if p.cfg.Dir != "" {
		if err := os.Chdir(p.cfg.Dir); err != nil {
			return fmt.Errorf("directory to run in: %w", err)
		}
	}
	if err := p.createBoard(); err != nil {
		return err
	}
	if err := p.openTurns(); err != nil {
		return err
	}
	return p.bindAll()
}

// settle finds out what the configuration means on this system, and whether it can be. It acquires nothing.
func (p *Parent) settle() (warnings []string, err error) {
	if p.rlimits, err = parseRlimits(p.cfg.Rlimits); err != nil {
		return nil, err
	}
	var warning string
	if p.identity, warning, err = identify(&p.cfg); err != nil {
		return nil, err
	}
	if p.owners, err = lookUpOwners(p.cfg.TrustedOwner); err != nil {
		return nil, err
	}
	if warning != "" {
		warnings = append(warnings, warning)
	}
	corrections, err := p.cfg.fit(p.identity != nil, p.asked)
	if err == nil {
		err = p.cfg.fitConnections(p.rlimits)
	}
	if err == nil && p.handed != nil {
		err = p.handed.check(&p.cfg)
	}
	return append(warnings, corrections...), err
}

// lock takes the run directory's own pidfile, which keeps a second daemon out of it, and the one that was asked for.
func (p *Parent) lock() error {
	if err := control.MakeDir(p.cfg.RunDir); err != nil {
		return err
	}
	if p.handed != nil {
		return p.adoptLocks()
	}
	paths := []string{filepath.Join(p.cfg.RunDir, control.PIDName)}
	if p.cfg.PIDFile != paths[0] {
		paths = append(paths, p.cfg.PIDFile)
	}
	for _, path := range paths {
		f, err := pidfile.Take(path)
		if err != nil {
			return err
		}
		p.pidfiles = append(p.pidfiles, f)
		p.onExit(func() { f.Release() })
	}
	return nil
}

func (p *Parent) createBoard() error {
	id := scoreboard.Identity{
		Name: p.cfg.Name, PID: p.self.PID, Start: p.self.Start, BootID: p.self.BootID,
		Program: p.program, PIDFile: p.cfg.PIDFile, ErrorLog: p.cfg.ErrorLog,
	}
	path := p.boardPath()
	if p.handed != nil {
		return p.adoptBoard(path, id)
	}
	_, err := os.Lstat(path)
	p.unclean = err == nil
	p.board, err = scoreboard.Create(path, id, p.cfg.slots())
	if err != nil {
		return err
	}
	p.openRing()
	return nil
}

// openRing begins to write events. It is the last thing that is known of the scoreboard.
func (p *Parent) openRing() {
	p.ring.open(p.board)
	p.onExit(func() {
		p.ring.open(nil)
		p.board.Remove()
	})
}

// slotsFor is the number of slots: for the children that serve, for those of old generations that drain, for those that
// drain because they have served their time, and for those that start.
func slotsFor(cfg *Config) int {
	return cfg.MaxChildren + cfg.MaxDrainingChildren + min(cfg.MaxChildren, 64) + parallelStarts() + 2*cfg.Dequeue.Max
}

// slots is how many slots a new scoreboard has. Where there is a configuration file somebody may write other numbers into it while the
// daemon runs.
func (cfg *Config) slots() int {
	n := slotsFor(cfg)
	if cfg.settings != nil && cfg.settings.file != nil {
		n = min(2*n, scoreboard.MaxSlots)
	}
	return n
}

// listenersOf are the listeners of children of one kind.
func (p *Parent) listenersOf(k scoreboard.Kind) []*listener {
	if k == scoreboard.Dequeue {
		return nil
	}
	return p.listeners
}

// bindAll binds Config.Listen and gives AfterInit its turn.
func (p *Parent) bindAll() error {
	p.onExit(func() {
		for _, l := range p.listeners {
			l.close()
		}
	})
	specs, err := parseListens(p.cfg.Listen)
	if err != nil {
		return err
	}
	for _, s := range specs {
		if _, err := p.listen(s); err != nil {
			return err
		}
	}
	if p.cfg.AfterInit != nil {
		if err := p.afterInit(); err != nil {
			return err
		}
	}
	if p.cfg.Pool == OnDemand && len(p.listeners) == 0 {
		return errors.New("field Pool is ondemand, but there is no listener: no client could make it start a child")
	}
	p.dropListeners()
	p.listenDone = true
	p.storeListeners()
	return p.board.SetListen(p.addresses())
}

// afterInit calls the hook. One that hangs must not leave children without a parent that takes care of them.
func (p *Parent) afterInit() error {
	call := func() error { return guard("AfterInit", func() error { return p.cfg.AfterInit(p) }) }
	if p.handed == nil {
		return call()
	}
	returned := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { returned <- err }()
		err = call()
	}()
	select {
	case err := <-returned:
		return err
	case <-time.After(p.cfg.StartTimeout):
		return fmt.Errorf("AfterInit has not returned within %v", p.cfg.StartTimeout)
	}
}
