package web

import (
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/brooddaemon/brood/scoreboard"
)

// hostile is what a client may send, and a job may show: markup, terminal sequences, controls of writing direction, bytes that
// are no text, and what a template or a script could take for its own.
var unixTime = time.Unix(1700000000, 0)

const hostile = "<img src=x onerror=alert(1)>\x1b[2J\u202e\x00\xff\u2028'\"`{{.}}</script>{age}${x}"

// What strangers have sent stays text on the page and in the stream, and control characters are seen as such.
func TestHostileText(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	work(f.child(0, os.Getpid(), 1), 1, hostile)
	f.status(scoreboard.Status{State: "degraded", Generation: 1, Want: 1, Trouble: hostile, Reload: hostile, ReloadAt: unixTime})
	f.must(f.board.Record(scoreboard.Event{Kind: scoreboard.EventGone, Slot: 0, PID: 1, Text: hostile}))
	s := newServer(t, Daemon{"d", dir})
	for _, path := range []string{"/", "/healthz", "/metrics"} {
		_, _, body := get(t, s, path)
		for _, bad := range []string{"<img", "</script>{", "\x1b", "\u202e", "\x00", "\xff"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s shows %q", path, bad)
			}
		}
		for _, r := range body {
			if unicode.IsControl(r) && r != '\n' && r != '\t' {
				t.Errorf("%s: control character %q", path, r)
			}
		}
		if path == "/" && !strings.Contains(body, `&lt;img src=x onerror=alert(1)&gt;\x1b[2J\u202e`) {
			t.Errorf("the text is not there: %s", body)
		}
	}
	d, _ := s.all[0].shown.since("d", 0)
	for _, text := range []string{d.Children[0].Text, d.Head.Trouble, d.Events[0].Text} {
		if strings.ContainsAny(text, "\x1b\u202e\u2028") || !strings.HasPrefix(text, `<img src=x onerror=alert(1)>\x1b[2J\u202e`) {
			t.Errorf("%q", text)
		}
	}
}

// The page is whole also where its script does not run.
func TestPage(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	f.child(0, os.Getpid(), 1)
	work(f.child(1, os.Getpid(), 2), 1, "GET /x")
	s := newServer(t, Daemon{"one", dir}, Daemon{"two", t.TempDir()})
	_, _, body := get(t, s, "/")
	for _, want := range []string{"generation 1", "generation 2", `data-state="working"`, "GET /x", ">one<", ">two<", "Not running", `data-stream="/stream"`} {
		if !strings.Contains(body, want) {
			t.Errorf("there is no %s", want)
		}
	}
	if strings.Contains(body, "style=") || strings.Contains(body, " on") && strings.Contains(body, "onclick") {
		t.Error("the page has what its own policy forbids")
	}
	if _, _, body := get(t, s, "/d/two/"); strings.Contains(body, "GET /x") || !strings.Contains(body, `data-stream="/d/two/stream"`) {
		t.Error("the page of one daemon shows another")
	}
}
