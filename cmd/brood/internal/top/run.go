package top

import (
	"context"
	"errors"
	"os"
	"os/signal"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/sys/unix"
)

// Run shows the view on the terminal that out is, with the keys that are pressed on in, until somebody quits or a signal comes. However it ends, but
// by SIGKILL, the terminal is as it was before.
func Run(m tea.Model, in, out *os.File) error {
	// Those that the library does not take care of itself.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGHUP, unix.SIGQUIT)
	defer stop()
	_, err := tea.NewProgram(m, tea.WithInput(in), tea.WithOutput(out), tea.WithContext(ctx)).Run()
	if errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil && !errors.Is(err, tea.ErrProgramPanic) {
		return nil // somebody wants it to end
	}
	return err
}
