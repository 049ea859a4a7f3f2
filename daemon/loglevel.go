package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/brooddaemon/brood/internal/control"
)

// A logLevel is from which level on the log gets what the parent and its hooks say. Events are made before it: see journal.
// What children print has no level, and is always there.
type logLevel struct {
	slog.LevelVar
	moved string // to which an operator has set it; empty: none has. It is the loop's
}

// parseLevel returns the level of a word.
func parseLevel(word string) (slog.Level, error) {
	var l slog.Level
	if !slices.Contains(control.Levels, word) || l.UnmarshalText([]byte(word)) != nil {
		return l, fmt.Errorf("%q is no level of a log: want %s", word, strings.Join(control.Levels, ", "))
	}
	return l, nil
}

// set makes a word that has been checked the level.
func (v *logLevel) set(word string) {
	if l, err := parseLevel(word); err == nil {
		v.Set(l)
	}
}

// word returns the word for the level.
func (v *logLevel) word() string { return strings.ToLower(v.Level().String()) }

// begin sets the level that the configuration says, or an operator has said before an upgrade.
func (v *logLevel) begin(configured string, h *handover) {
	v.set(configured)
	if h != nil && h.LogLevel != "" {
		v.set(h.LogLevel)
		v.moved = v.word()
	}
}

// setLogLevel does what an operator has asked for.
func (l *loop) setLogLevel(ev evLogLevel) {
	from := l.level.word()
	l.level.set(ev.level)
	l.level.moved = ev.level
	l.log.Info("log level", "cause", ev.cause, "from", from, "to", ev.level)
	if ev.reply != nil {
		ev.reply(nil)
	}
}

// A levelled passes on what is of a level, to a handler that may have one of its own.
type levelled struct {
	slog.Handler
	least slog.Leveler
}

// Enabled reports whether both want it.
func (h levelled) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.least.Level() && h.Handler.Enabled(ctx, l)
}

// WithAttrs returns a handler of the same level.
func (h levelled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelled{h.Handler.WithAttrs(attrs), h.least}
}

// WithGroup returns a handler of the same level.
func (h levelled) WithGroup(name string) slog.Handler {
	return levelled{h.Handler.WithGroup(name), h.least}
}
