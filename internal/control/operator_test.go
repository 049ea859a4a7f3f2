package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// A got is what Receive returns.
type got struct {
	Request
	Peer
	err error
}

// listen binds the socket in dir and serves each connection: it passes on what Receive says and sends the reply.
func listen(t *testing.T, dir string, reply Reply) <-chan got {
	t.Helper()
	l, err := Listen(dir)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	received := make(chan got, 100)
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, p, err := Receive(c)
				if err != nil {
					Answer(c, Reply{Error: err.Error()})
				} else {
					Answer(c, reply)
				}
				received <- got{r, p, err}
			}()
		}
	}()
	return received
}

// call is what an operator does.
func call(t *testing.T, dir string, r Request) (Reply, error) {
	t.Helper()
	c, err := Dial(dir)
	must(t, err)
	defer c.Close()
	if c.Peer != (Peer{os.Getpid(), os.Geteuid()}) {
		t.Errorf("the daemon is %+v, want this process", c.Peer)
	}
	return c.Call(t.Context(), r, nil)
}

// say sends raw bytes, ends the connection's way there if asked, and returns what comes back.
func say(t *testing.T, dir, text string, end bool) string {
	t.Helper()
	c, err := Dial(dir)
	must(t, err)
	defer c.Close()
	c.c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		io.WriteString(c.c, text)
		if end {
			c.c.CloseWrite()
		}
	}()
	line, err := bufio.NewReader(c.c).ReadString('\n')
	if err != nil {
		t.Errorf("%.100q: no answer but %q, %v", text, line, err)
	}
	return line
}

func TestVerbs(t *testing.T) {
	dir := openDir(t)
	want := Reply{OK: true, Text: "done, \"quoted\"\n\x1b"}
	received := listen(t, dir, want)
	for _, r := range []Request{
		{Verb: VerbStop}, {Verb: VerbStop, Quick: true}, {Verb: VerbReload}, {Verb: VerbReload, Begin: true}, {Verb: VerbUpgrade},
		{Verb: VerbReopen}, {Verb: VerbScale, N: -3, Delta: true}, {Verb: VerbStatus}, {Verb: VerbEvents, N: 10},
		{Verb: VerbDrain}, {Verb: VerbDrain, PID: 4711}, {Verb: VerbLogLevel}, {Verb: VerbLogLevel, Level: "warn"},
	} {
		reply, err := call(t, dir, r)
		if !reflect.DeepEqual(reply, want) || err != nil {
			t.Errorf("%+v: answered %+v, %v", r, reply, err)
		}
		if g := <-received; g.err != nil || g.Request != r || g.Peer != (Peer{os.Getpid(), os.Geteuid()}) {
			t.Errorf("%+v: received %+v", r, g)
		}
	}
	for _, verb := range []string{"", "STOP", "halt", "stop ", strings.Repeat("x", 60_000)} {
		reply, err := call(t, dir, Request{Verb: verb})
		if reply.OK || err != nil || !strings.HasPrefix(reply.Error, `unknown verb "`+verb[:min(len(verb), 4000)]) {
			t.Errorf("%.20q: answered %+v, %v", verb, reply, err)
		}
		if g := <-received; g.err == nil {
			t.Errorf("%.20q: received %+v", verb, g)
		}
	}
}

// What comes before the reply is told in its order, and what comes with it is whole, however long.
func TestProgress(t *testing.T) {
	dir := openDir(t)
	l, err := Listen(dir)
	must(t, err)
	defer l.Close()
	data := json.RawMessage(`"` + strings.Repeat("x", 4<<20) + `"`)
	go func() {
		for range 3 {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			if _, _, err := Receive(c); err != nil {
				t.Error(err)
			}
			for _, text := range []string{"one", "", "\x1b[2J\n", strings.Repeat("\x00", 1<<20)} {
				must(t, Tell(c, text))
			}
			must(t, Answer(c, Reply{OK: true, Data: data}))
			c.Close()
		}
	}()
	var told []string
	reply, err := Ask(t.Context(), dir, Request{Verb: VerbReload}, func(text string) { told = append(told, text) })
	if err != nil || !reply.OK || !bytes.Equal(reply.Data, data) {
		t.Errorf("%v, %v, %d bytes", err, reply.OK, len(reply.Data))
	}
	if len(told) != 4 || told[0] != "one" || told[1] != "" || told[2] != "\x1b[2J\n" || len(told[3]) != 4096 {
		t.Errorf("told %.40q", told)
	}
	if reply, err := Ask(t.Context(), dir, Request{Verb: VerbReload}, nil); err != nil || !reply.OK {
		t.Errorf("who does not want to be told: %v, %+v", err, reply.OK)
	}
	// As a program that reads lines sees it.
	lines := strings.SplitAfter(sayAll(t, dir, `{"verb":"reload"}`+"\n"), "\n")
	if lines[0] != `{"progress":"one"}`+"\n" || !strings.HasPrefix(lines[4], `{"ok":true,"data":"xxx`) {
		t.Errorf("the lines are %.80q", lines)
	}
}

// sayAll sends raw bytes and returns all that comes back.
func sayAll(t *testing.T, dir, text string) string {
	t.Helper()
	c, err := Dial(dir)
	must(t, err)
	defer c.Close()
	c.c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = io.WriteString(c.c, text)
	must(t, err)
	b, err := io.ReadAll(c.c)
	must(t, err)
	return string(b)
}

// An answer that is longer than any is not sent, nor taken.
func TestTooLong(t *testing.T) {
	dir := openDir(t)
	listen(t, dir, Reply{OK: true, Data: json.RawMessage(`"` + strings.Repeat("x", maxData) + `"`)})
	reply, err := call(t, dir, Request{Verb: VerbStatus})
	if err != nil || reply.OK || !strings.Contains(reply.Error, "bytes, at most") {
		t.Errorf("answered %v, %q, %v", reply.OK, reply.Error, err)
	}
	if _, err := readLine(bufio.NewReader(endless{})); !errors.Is(err, errLong) {
		t.Errorf("a line without end: %v", err)
	}
}

// endless has no newline, and no end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// Whatever comes, only what can be dealt with is taken, and it means the same when it is written down and read again, as a
// parent that replaces itself does.
func FuzzRequest(f *testing.F) {
	for _, verb := range Verbs {
		f.Add([]byte(`{"verb":"` + verb + `","n":3,"pid":4711,"level":"warn","delta":true,"begin":true,"quick":true}`))
	}
	for _, s := range []string{"", "null", "[]", `{"verb":7}`, `{"verb":"stop"} x`, `{"VERB":"stop","n":1e99}`, `{"verb":"drain","pid":-1}`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRequest(line)
		if err != nil {
			return
		}
		if !slices.Contains(Verbs, r.Verb) || r.PID < 0 || r.Level != "" && !slices.Contains(Levels, r.Level) || r.Verb == VerbEvents && r.N < 0 {
			t.Errorf("%q is taken: %+v", line, r)
		}
		b, err := json.Marshal(r)
		must(t, err)
		if again, err := parseRequest(b); err != nil || again != r {
			t.Errorf("%+v is %+v when it is read again, %v", r, again, err)
		}
	})
}

func TestGarbage(t *testing.T) {
	dir := openDir(t)
	received := listen(t, dir, Reply{OK: true})
	long := `{"verb":"stop","padding":"` + strings.Repeat("x", 64<<10) + `"}` + "\n"
	for _, c := range []struct {
		text string
		end  bool
	}{
		{"\n", false},
		{"stop\n", false},
		{"GET / HTTP/1.1\r\n", false},
		{"[]\n", false},
		{"null\n", false},
		{`{"verb":7}` + "\n", false},
		{`{"verb":"stop"} {"verb":"stop"}` + "\n", false},
		{`{"verb":"stop"`, true},
		{`{"verb":"stop"}`, true}, // not a line
		{`{"verb":"drain","pid":-1}` + "\n", false},
		{`{"verb":"drain","pid":"0"}` + "\n", false},
		{`{"verb":"log-level","level":"loud"}` + "\n", false},
		{`{"verb":"log-level","level":"INFO"}` + "\n", false},
		{`{"verb":"events","n":-1}` + "\n", false},
		{`{"verb":"scale","n":99999999999999999999}` + "\n", false},
		{"\xff\x00\x1b[2J\n", false},
		{strings.Repeat("[", 60_000) + "\n", false},
		{long, false},
		{strings.Repeat("x", 1<<20), false}, // a line without an end
		{"", true},
	} {
		begun := time.Now()
		if line := say(t, dir, c.text, c.end); !strings.HasPrefix(line, `{"ok":false,"error":"`) {
			t.Errorf("%.100q: answered %q", c.text, line)
		}
		if g := <-received; g.err == nil {
			t.Errorf("%.100q: received %+v", c.text, g)
		}
		if d := time.Since(begun); d >= RequestTime {
			t.Errorf("%.100q: answered after %v: it was the time that ran out", c.text, d)
		}
	}
	// What is long and still within the limit is taken.
	line := say(t, dir, strings.Replace(long, strings.Repeat("x", 1000), "", 1), false)
	if g := <-received; g.err != nil || g.Verb != VerbStop || line != `{"ok":true}`+"\n" {
		t.Errorf("a line of %d bytes: received %+v, answered %q", len(long)-1000, g, line)
	}
}

// Nobody holds up the daemon: neither who says nothing nor who says it slowly.
func TestSlow(t *testing.T) {
	if testing.Short() {
		t.Skip("takes five seconds")
	}
	t.Parallel()
	dir := openDir(t)
	received := listen(t, dir, Reply{OK: true})
	silent, err := Dial(dir)
	must(t, err)
	defer silent.Close()
	slow, err := Dial(dir)
	must(t, err)
	begun := time.Now()
	go func() {
		defer slow.Close()
		for time.Since(begun) < 3*RequestTime {
			if _, err := io.WriteString(slow.c, " "); err != nil {
				return
			}
			time.Sleep(RequestTime / 50)
		}
	}()
	for range 2 {
		g := <-received
		if d := time.Since(begun); !errors.Is(g.err, os.ErrDeadlineExceeded) || d < RequestTime*9/10 || d > 2*RequestTime {
			t.Errorf("after %v: %+v, want the end of its time after %v", d, g, RequestTime)
		}
	}
}

// Whatever the daemon has to say, the operator gets a good part of it.
func TestLongAnswer(t *testing.T) {
	dir := openDir(t)
	for _, c := range []string{"x", "\x00", "<", "\xff", "\u2028", "exited before it was ready: \n\t"} {
		text := strings.Repeat(c, 1<<20/len(c))
		listen(t, dir, Reply{Error: text, Text: text})
		reply, err := call(t, dir, Request{Verb: VerbReload})
		if err != nil {
			t.Errorf("%q over and over: %v", c, err)
			continue
		}
		if c != "\xff" && (!strings.HasPrefix(text, reply.Error[:4000]) || reply.Text != reply.Error) {
			t.Errorf("%q over and over comes back as %.100q", c, reply.Error)
		}
		if len(reply.Error) < 4000 {
			t.Errorf("%q over and over comes back with %d bytes", c, len(reply.Error))
		}
	}
}

// Call ends with its context, and with the daemon.
func TestCallEnds(t *testing.T) {
	dir := openDir(t)
	l, err := Listen(dir)
	must(t, err)
	defer l.Close()
	conns := make(chan *net.UnixConn, 10)
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	dial := func() (*Client, *net.UnixConn) {
		c, err := Dial(dir)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return c, <-conns
	}

	c, server := dial()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Call(ctx, Request{Verb: VerbReload}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer in time: %v", err)
	}
	server.Close()

	c, server = dial()
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := c.Call(ctx, Request{Verb: strings.Repeat("x", 1<<22)}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while nobody reads: %v", err)
	}
	server.Close()

	for _, answer := range []string{"", `{"ok":tr`, "no JSON\n", strings.Repeat(" ", 1<<20)} {
		c, server := dial()
		go func() {
			bufio.NewReader(server).ReadString('\n')
			io.WriteString(server, answer)
			server.Close()
		}()
		if r, err := c.Call(t.Context(), Request{Verb: VerbStop}, nil); err == nil || !strings.HasPrefix(err.Error(), "the daemon gave no answer") {
			t.Errorf("%.20q is taken for %+v, %v", answer, r, err)
		}
	}

	// One that refuses without reading has said why.
	c, server = dial()
	must(t, Answer(server, Reply{Error: "not you"}))
	server.Close()
	if r, err := c.Call(t.Context(), Request{Verb: VerbStop}, nil); err != nil || r.Error != "not you" {
		t.Errorf("refused unread: %+v, %v", r, err)
	}
}

// Await returns when there is nothing more to wait for, and leaves all of it to Receive.
func TestAwait(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir)
	must(t, err)
	defer l.Close()
	long := strings.Repeat("x", maxRequest)
	for _, c := range []struct {
		parts []string
		close bool
		want  string // of Receive's error; empty: it is a request
	}{
		{[]string{`{"verb":"status"}` + "\n"}, false, ""},
		{[]string{`{"verb"`, `:`, `"status"}`, "\n"}, false, ""},
		{[]string{`{"verb":"status"}` + "\n"}, true, ""},
		{[]string{`{"verb":"status"}`}, true, "EOF"},
		{nil, true, "EOF"},
		{[]string{long[1:], "x"}, false, "buffer full"},
	} {
		path, done, err := address(dir)
		must(t, err)
		asks, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		done()
		must(t, err)
		hears, err := l.AcceptUnix()
		must(t, err)
		over := make(chan error, 1)
		go func() { over <- Await(hears) }()
		for i, part := range c.parts {
			_, err := io.WriteString(asks, part)
			must(t, err)
			if i == len(c.parts)-1 {
				break
			}
			select {
			case err := <-over:
				t.Fatalf("%.40q: over after %.40q: %v", c.parts, part, err)
			case <-time.After(10 * time.Millisecond):
			}
		}
		if c.close {
			must(t, asks.CloseWrite())
		}
		must(t, <-over)
		begun := time.Now()
		if _, _, err := Receive(hears); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.40q: %v, want %q", c.parts, err, c.want)
		}
		if d := time.Since(begun); d > RequestTime/2 {
			t.Errorf("%.40q: Receive has waited for %v", c.parts, d)
		}
		asks.Close()
		hears.Close()
	}
}
