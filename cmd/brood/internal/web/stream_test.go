package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// An openedPage is the reader of a stream.
type openedPage struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
	beats int
	beat  func()      // called at each heartbeat
	times []time.Time // of messages
}

func openPage(t *testing.T, url string) *openedPage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	p := &openedPage{t: t, resp: resp, lines: bufio.NewScanner(resp.Body), beat: func() {}}
	p.lines.Buffer(nil, 1<<20)
	return p
}

// next returns the next message; heartbeats before it are counted.
func (p *openedPage) next() message {
	p.t.Helper()
	for beat := false; p.lines.Scan(); {
		text, isData := strings.CutPrefix(p.lines.Text(), "data: ")
		switch {
		case p.lines.Text() == "event: beat":
			beat = true
		case isData && beat:
			p.beats++
			beat = false
			p.beat()
		case isData:
			var m message
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				p.t.Fatal(err)
			}
			p.times = append(p.times, time.Now())
			return m
		}
	}
	p.t.Fatalf("the stream has ended: %v", p.lines.Err())
	return message{}
}

// end reports whether the stream ends.
func (p *openedPage) end() bool {
	for p.lines.Scan() {
	}
	return true
}

// serveAt runs a server and returns its address.
func serveAt(t *testing.T, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, l, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

// A page is told everything first, and then what is new; when nothing is, it is told only that it is connected.
func TestStream(t *testing.T) {
	dir := t.TempDir()
	quiet := identityOf(t, sleeper(t)) // the memory of this process would be news
	f := newFake(t, dir, self(t))
	f.child(0, os.Getpid(), 1)
	two := f.child(1, os.Getpid(), 1)
	p := openPage(t, serveAt(t, newServer(t, Daemon{"d", dir}))+"/d/d/stream")
	if kind := p.resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Error(kind)
	}
	children, events := map[int]child{}, []event{}
	take := func(m message) {
		for _, d := range m.Daemons {
			if d.Full {
				clear(children)
			}
			for _, slot := range d.Gone {
				delete(children, slot)
			}
			for _, c := range d.Children {
				children[c.Slot] = c
			}
			events = append(events, d.Events...)
		}
	}
	take(p.next())
	if len(children) != 2 || children[1].Letter != "_" {
		t.Fatalf("%+v", children)
	}
	work(two, 5, "hard")
	f.must(f.board.Record(scoreboard.Event{Kind: scoreboard.EventReload, Slot: -1, Generation: 2}))
	for children[1].Text != "hard" || len(events) != 1 || events[0].Kind != "reload" {
		m := p.next()
		if m.Daemons[0].Full || len(m.Daemons[0].Children) > 1 {
			t.Fatalf("more than what is new: %+v", m.Daemons[0])
		}
		take(m)
	}
	f.must(f.board.Free(0))
	for len(children) != 1 {
		take(p.next())
	}
	// Another parent: nothing of the old one holds.
	g := newFake(t, dir, quiet)
	g.child(4, os.Getpid(), 1)
	for m := p.next(); ; m = p.next() {
		take(m)
		if m.Daemons[0].Full {
			break
		}
	}
	if len(children) != 1 || children[4].Letter != "_" {
		t.Errorf("%+v", children)
	}
	// Now nothing happens, until a heartbeat has come.
	p.beat = func() { g.board.Record(scoreboard.Event{Kind: scoreboard.EventNote, Slot: -1}) }
	before := len(p.times)
	for len(events) == 1 {
		take(p.next())
	}
	if p.beats == 0 {
		t.Error("no heartbeat")
	}
	if n := len(p.times) - before; n > 3 {
		t.Errorf("%d messages while nothing happened", n)
	}
}

// However fast things change, and whoever else asks, a page gets two messages a second at most, and the last one has it all.
func TestPace(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	s := newServer(t, Daemon{"d", dir})
	p := openPage(t, serveAt(t, s)+"/stream")
	go func() {
		for range 100 {
			f.board.Record(scoreboard.Event{Kind: scoreboard.EventNote, Slot: -1})
			s.refresh(0)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for last := uint64(0); last < 100; {
		for _, e := range p.next().Daemons[0].Events {
			if e.Seq != last+1 {
				t.Fatalf("event %d after %d", e.Seq, last)
			}
			last = e.Seq
		}
	}
	if took := p.times[len(p.times)-1].Sub(p.times[0]); len(p.times) > int(took/pause)+2 {
		t.Errorf("%d messages in %s", len(p.times), took)
	}
}

func TestTooManyPages(t *testing.T) {
	addr := serveAt(t, newServer(t, Daemon{"d", t.TempDir()}))
	for range maxPages {
		openPage(t, addr+"/stream").next()
	}
	p := openPage(t, addr+"/stream")
	if p.resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one page too many: %d", p.resp.StatusCode)
	}
	if resp, err := http.Get(addr + "/metrics"); err != nil || resp.StatusCode != 200 {
		t.Errorf("others are not answered: %v, %v", resp, err)
	}
}

// A version that a page knows leads to exactly what it has missed.
func TestSince(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	a := f.child(0, os.Getpid(), 1)
	w, now := watch(t, dir), time.Now()
	step := func(version uint64) bool { now = now.Add(time.Second); return w.look(now, version) }
	if !step(1) {
		t.Fatal("the first look shows nothing new")
	}
	step(2)
	if d, _ := w.shown.since("d", 1); d.Full || len(d.Children)+len(d.Gone)+len(d.Events)+len(d.Samples) > 0 {
		t.Fatalf("nothing has happened, but this is new: %+v", d)
	}
	work(a, 1, "x")
	step(3)
	f.must(f.board.Record(scoreboard.Event{Kind: scoreboard.EventNote, Slot: -1}))
	step(4)
	for version, want := range map[uint64]string{0: "true 1 1", 2: "false 1 1", 3: "false 0 1", 4: "false 0 0"} {
		d, _ := w.shown.since("d", version)
		if got := fmt.Sprint(d.Full, len(d.Children), len(d.Events)); got != want {
			t.Errorf("since %d: %s, want %s", version, got, want)
		}
	}
	// The chart has a step for each change and not for each second.
	for range 400 {
		step(5)
	}
	if n := len(w.shown.samples); n > 3 {
		t.Errorf("%d steps in the chart: %+v", n, w.shown.samples)
	}
}
