package daemon

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/brooddaemon/brood/scoreboard"
)

// journalOn returns a journal before a log, with a board of its own.
func journalOn(t *testing.T, log slog.Handler) (*slog.Logger, *ring, *scoreboard.Board, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scoreboard")
	b, err := scoreboard.Create(path, scoreboard.Identity{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Remove() })
	r := new(ring)
	r.open(b)
	return newJournal(slog.New(log), r), r, b, path
}

func eventsIn(t *testing.T, path string) []scoreboard.Event {
	t.Helper()
	r, err := scoreboard.OpenRing(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	events, err := r.Since(0)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// What is a line of the log is an event, with the same facts; what has a kind is one at any level; the rest is not.
func TestJournal(t *testing.T) {
	var out bytes.Buffer
	log, _, _, path := journalOn(t, slog.NewTextHandler(&out, nil))
	child := []any{"slot", 1, "pid", 77, "generation", uint64(3)}
	log.Info("child ready", child...)
	log.Debug("child started", append(child, "cause", "replaces 70: died, signal: killed")...)
	log.Debug("stranger reaped", "pid", 9)
	log.Warn("something odd", "err", errors.New("no \x1b[2J luck"), "within", time.Second)
	log.Info("operator", "verb", "reload", "uid", uint32(0), "pid", 4711)
	log.Info("client has left", append(child, "job", uint64(9), "text", "GET /, kill\x1b", "client", "1.2.3.4:5", "how", "closed", "action", "cancel")...)
	log.With("slot", 0, "pid", 78).Info("child ended", "cause", "reload: x", "status", "exit status 0", "done", uint64(12))
	log.Warn("scale refused", "cause", "signal SIGTTIN", "err", errors.New("too many"))
	want := []scoreboard.Event{
		{Seq: 1, Kind: scoreboard.EventReady, Slot: 1, PID: 77, Generation: 3},
		{Seq: 2, Kind: scoreboard.EventSpawn, Slot: 1, PID: 77, Generation: 3, Text: "replaces 70: died, signal: killed"},
		{Seq: 3, Kind: scoreboard.EventNote, Slot: -1, Text: "something odd: no \x1b[2J luck, within=1s"},
		{Seq: 4, Kind: scoreboard.EventOperator, Slot: -1, Operator: &scoreboard.Operator{UID: 0, PID: 4711}, Text: "reload"},
		{Seq: 5, Kind: scoreboard.EventGone, Slot: 1, PID: 77, Generation: 3, Job: 9, Text: "closed, cancel, 1.2.3.4:5, GET /, kill\x1b"},
		{Seq: 6, Kind: scoreboard.EventExit, PID: 78, Done: 12, Text: "exit status 0, reload: x"},
		{Seq: 7, Kind: scoreboard.EventScale, Slot: -1, Text: "refused: signal SIGTTIN, too many"},
	}
	if diff := cmp.Diff(want, eventsIn(t, path), cmpopts.IgnoreFields(scoreboard.Event{}, "Time")); diff != "" {
		t.Errorf("want (-) against got (+):\n%s", diff)
	}
	if n := strings.Count(out.String(), "\n"); n != 6 || strings.Contains(out.String(), "child started") {
		t.Errorf("%d lines, want those of level info and above:\n%s", n, &out)
	}
}

// Events are written also if the log takes nothing, and a ring that cannot be written to is told of once.
func TestJournalAlone(t *testing.T) {
	log, _, _, path := journalOn(t, slog.DiscardHandler)
	log.Info("stopping", "cause", "signal SIGTERM")
	if got := eventsIn(t, path); len(got) != 1 || got[0].Kind != scoreboard.EventStop {
		t.Errorf("got %+v", got)
	}
	var out bytes.Buffer
	log, r, b, _ := journalOn(t, slog.NewTextHandler(&out, nil))
	b.Remove()
	for range 3 {
		log.Info("stopping")
	}
	if n := strings.Count(out.String(), "events cannot be written"); n != 1 || strings.Count(out.String(), "msg=stopping") != 3 {
		t.Errorf("told %d times, want once:\n%s", n, &out)
	}
	r.open(nil)
	log.Info("stopping") // the daemon has given its board back
	if strings.Count(out.String(), "\n") != 5 {
		t.Errorf("got:\n%s", &out)
	}
}

// The words by which events are known are those of the log: none is said nowhere, and what the pool decides about children
// and reloads has a kind.
func TestSorts(t *testing.T) {
	said := map[string]string{} // by message: by whom
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			for _, arg := range call.Args {
				if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					s, _ := strconv.Unquote(lit.Value)
					if _, ok := said[s]; !ok || fun.Sel.Name == "log" || fun.Sel.Name == "logSome" {
						said[s] = fun.Sel.Name
					}
					break // the message is the first text
				}
			}
			return true
		})
	}
	for msg := range sorts {
		if said[msg] == "" {
			t.Errorf("nobody says %q", msg)
		}
	}
	for msg, by := range said {
		if _, ok := sorts[msg]; !ok && (by == "log" || by == "logSome") && msg != "lines about failing children were left out" {
			t.Errorf("the pool says %q, which is of no kind", msg)
		}
	}
}

// What hooks and children say is not what the parent has decided.
func TestJournalOfParent(t *testing.T) {
	_, _, b, path := journalOn(t, slog.DiscardHandler)
	p := &Parent{cfg: Config{Logger: slog.New(slog.DiscardHandler)}}
	if err := p.openLogs(); err != nil {
		t.Fatal(err)
	}
	p.ring.open(b)
	p.Logger().Error("a hook's")
	p.childLog.Error("a child's")
	p.log.Info("stopping")
	if got := eventsIn(t, path); len(got) != 1 || got[0].Kind != scoreboard.EventStop || p.ring.last() != 1 {
		t.Errorf("got %+v", got)
	}
}
