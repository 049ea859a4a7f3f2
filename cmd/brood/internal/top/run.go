package top

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
)

// Run shows a model on the terminal that out is, with the keys that are pressed on in, until somebody quits or a signal comes.
// However it ends, but by SIGKILL, the terminal is as it was before. A panic of the model is an error, which has its stack.
func Run(m tea.Model, in, out *os.File) error {
	g := &guard{}
	// Signals and panics have it quit, as a key does: of the library's own ways out that is the one on which all that is under
	// way comes to its end first.
	p := tea.NewProgram(guarded{m, g}, tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler())
	g.quit = p.Quit
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	defer close(done)
	go func() {
		select {
		case <-signals:
			p.Quit()
		case <-done:
		}
	}()
	if _, err := p.Run(); err != nil {
		return err
	}
	return g.fallen()
}

// A guard takes note of the first panic.
type guard struct {
	quit func()
	mu   sync.Mutex
	err  error
}

func (g *guard) fallen() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// catch is deferred by what may panic. It has the program quit, but does not wait for that: it may be the program's own goroutine.
func (g *guard) catch() {
	r := recover()
	if r == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = fmt.Errorf("panic: %s\n%s", view.Safe(fmt.Sprint(r)), debug.Stack())
		go g.quit()
	}
}

// guarded is a model whose panics do not get past it.
type guarded struct {
	m tea.Model
	g *guard
}

func (m guarded) Init() (cmd tea.Cmd) {
	defer m.g.catch()
	return m.command(m.m.Init())
}

func (m guarded) Update(msg tea.Msg) (next tea.Model, cmd tea.Cmd) {
	next = m
	defer m.g.catch()
	inner, cmd := m.m.Update(msg)
	return guarded{inner, m.g}, m.command(cmd)
}

func (m guarded) View() (v tea.View) {
	v.AltScreen = true // until the end
	defer m.g.catch()
	return m.m.View()
}

func (m guarded) command(cmd tea.Cmd) tea.Cmd {
	if cmd == nil {
		return nil
	}
	return func() (msg tea.Msg) {
		defer m.g.catch()
		return cmd()
	}
}
