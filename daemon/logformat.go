package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/brooddaemon/brood/internal/logs"
)

// A LogFormat is how the lines of the error log look.
type LogFormat string

const (
	// LogText is a line of words such as level=INFO: that of slog.TextHandler.
	LogText LogFormat = "text"
	// LogJSON is an object for each line: that of slog.JSONHandler. What children print is the msg of such a line, with source
	// "child", stream, pid, slot and generation.
	LogJSON LogFormat = "json"
)

// complete fills in the default.
func (f *LogFormat) complete() error {
	switch *f {
	case "":
		*f = LogText
	case LogText, LogJSON:
	default:
		return fmt.Errorf("field LogFormat is %q: want %q or %q", *f, LogText, LogJSON)
	}
	return nil
}

// handler returns one that writes to w in this format what is of that level at least; nil: slog.LevelInfo.
func (f LogFormat) handler(w io.Writer, level slog.Leveler) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if f == LogJSON {
		return slog.NewJSONHandler(jsonWriter{w}, opts)
	}
	return slog.NewTextHandler(w, opts)
}

// A jsonWriter takes lines of JSON and escapes in them what JSON lets pass and a terminal obeys.
type jsonWriter struct{ w io.Writer }

func (j jsonWriter) Write(p []byte) (int, error) {
	if _, err := j.w.Write(logs.EscapeJSON(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// dropped makes the line in the place of n that found no room.
func (f LogFormat) dropped(n uint64) []byte {
	if f == LogJSON {
		return fmt.Appendf(nil, "{\"time\":%q,\"level\":\"WARN\",\"msg\":\"lines were dropped\",\"lines\":%d}\n", time.Now().Format(time.RFC3339Nano), n)
	}
	return fmt.Appendf(nil, "… %d lines dropped\n", n)
}
