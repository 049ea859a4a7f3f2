package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// asks is what an operator does. told is what he hears on the way.
func (s *site) asks(r control.Request) (reply control.Reply, told []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	reply, err := control.Ask(ctx, s.path("run"), r, func(text string) { told = append(told, text) })
	if err != nil {
		s.t.Fatalf("%+v: %v", r, err)
	}
	return reply, told
}

// gets is asks for what must go well.
func (s *site) gets(r control.Request) (reply control.Reply, told []string) {
	s.t.Helper()
	reply, told = s.asks(r)
	if !reply.OK {
		s.t.Errorf("%+v: %s", r, reply.Error)
	}
	return reply, told
}

// recorded are the events that there have been.
func (s *site) recorded() []scoreboard.Event {
	s.t.Helper()
	ring, err := scoreboard.OpenRing(s.path("run/scoreboard"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer ring.Close()
	all, err := ring.Since(0)
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// Who asks for a change is on record, by user and process, whatever becomes of it. Who only looks is not.
func TestOperatorsAreRecorded(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_SOAK=50ms")
	child := s.serving()[0].PID
	type wish struct {
		control.Request
		ok    bool
		event string // its text
	}
	var wishes []wish
	add := func(r control.Request, ok bool, event string) { wishes = append(wishes, wish{r, ok, event}) }
	add(control.Request{Verb: control.VerbReopen}, true, "reopen")
	add(control.Request{Verb: control.VerbScale, N: 3}, true, "scale")
	add(control.Request{Verb: control.VerbScale, N: 999}, false, "scale")
	add(control.Request{Verb: control.VerbDrain, PID: child}, true, fmt.Sprint("drain, child=", child))
	add(control.Request{Verb: control.VerbDrain, PID: 1}, false, "drain, child=1")
	add(control.Request{Verb: control.VerbDrain, PID: -1}, false, "refused: -1 is no process id")
	add(control.Request{Verb: control.VerbDrain}, true, "drain")
	add(control.Request{Verb: control.VerbReload}, true, "reload")
	add(control.Request{Verb: control.VerbUpgrade}, true, "upgrade")
	add(control.Request{Verb: control.VerbLogLevel, Level: "warn"}, true, "log-level, level=warn")
	add(control.Request{Verb: control.VerbLogLevel, Level: "loud"}, false, `refused: unknown level "loud": want debug, info, warn, error`)
	add(control.Request{Verb: "halt"}, false, `refused: unknown verb "halt"`)
	for _, w := range wishes {
		for _, look := range []string{control.VerbStatus, control.VerbEvents, control.VerbLogLevel} {
			s.gets(control.Request{Verb: look})
		}
		reply, _ := s.asks(w.Request)
		if reply.OK != w.ok {
			t.Errorf("%+v: %v %s", w.Request, reply.OK, reply.Error)
		}
	}
	me := scoreboard.Operator{UID: uint32(os.Geteuid()), PID: os.Getpid()}
	var got, want []string
	for _, e := range s.recorded() {
		if e.Kind == scoreboard.EventOperator {
			got = append(got, fmt.Sprint(*e.Operator, e.Text))
		}
	}
	for _, w := range wishes {
		want = append(want, fmt.Sprint(me, w.event))
	}
	if !slices.Equal(got, want) {
		t.Errorf("recorded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// The last one is seen only by who has the file open: it is gone with the daemon.
	ring, err := scoreboard.OpenRing(s.path("run/scoreboard"))
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	s.gets(control.Request{Verb: control.VerbStop, Quick: true})
	if !s.over(patience) {
		t.Fatal("the daemon does not stop")
	}
	all, err := ring.Since(0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(e scoreboard.Event) bool {
		return e.Kind == scoreboard.EventOperator && *e.Operator == me && e.Text == "stop, quick=true"
	}) {
		t.Error("nobody has asked for the end of it")
	}
}

// keeps makes a child busy until the connection is closed.
func (s *site) keeps() (conn net.Conn, pid int) {
	s.t.Helper()
	conn = s.dial("tcp4")
	s.await("a busy child", func(b *scoreboard.Snapshot) bool {
		i := slices.IndexFunc(b.Children, func(c scoreboard.Child) bool { return c.State.Busy() })
		if i >= 0 {
			pid = b.Children[i].PID
		}
		return i >= 0
	})
	return conn, pid
}

// What is shown at the control socket is what stands in the file.
func TestOperatorsLook(t *testing.T) {
	t.Parallel()
	s := start(t, lines)
	same := func(what string, data json.RawMessage, v any) {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, data) {
			t.Errorf("%s is\n%s\nwant\n%s", what, data, b)
		}
	}
	eventually(t, "the same status", func() bool { // the parent may write in between
		before := s.board()
		reply, _ := s.gets(control.Request{Verb: control.VerbStatus})
		b, err := json.Marshal(struct {
			Running bool `json:"running"`
			*scoreboard.Snapshot
		}{true, before})
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Equal(b, reply.Data)
	})
	all := s.recorded()
	reply, _ := s.gets(control.Request{Verb: control.VerbEvents})
	same("all events", reply.Data, all)
	reply, _ = s.gets(control.Request{Verb: control.VerbEvents, N: 2})
	same("the last two events", reply.Data, all[len(all)-2:])
	reply, _ = s.gets(control.Request{Verb: control.VerbEvents, N: 100_000})
	same("more events than there are", reply.Data, all)
}

// Who waits hears how far it is, and the verdict comes last.
func TestOperatorsHear(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_SOAK=200ms")
	hears := func(told []string, want ...string) {
		t.Helper()
		at := 0
		for _, text := range told {
			if at < len(want) && strings.Contains(text, want[at]) {
				at++
			}
		}
		if at < len(want) {
			t.Errorf("heard %q, want %q", told, want)
		}
	}
	_, told := s.gets(control.Request{Verb: control.VerbReload})
	hears(told, "generation 2: ", "generation 2: its first child is on probation")
	_, told = s.gets(control.Request{Verb: control.VerbScale, N: 5})
	hears(told, "of 5 children serve")
	_, told = s.gets(control.Request{Verb: control.VerbUpgrade})
	hears(told, "the program is tried")

	// A job keeps its child, and who waits for that one.
	conn, pid := s.keeps()
	waiting := make(chan []string, 1)
	go func() {
		var told []string
		control.Ask(t.Context(), s.path("run"), control.Request{Verb: control.VerbDrain, PID: pid}, func(text string) { told = append(told, text) })
		waiting <- told
	}()
	s.await("a child that drains", func(b *scoreboard.Snapshot) bool {
		return slices.ContainsFunc(b.Children, func(c scoreboard.Child) bool { return c.PID == pid && c.State == scoreboard.Draining })
	})
	conn.Close()
	hears(<-waiting, fmt.Sprintf("child %d finishes its jobs", pid))
	conn, _ = s.keeps()
	go func() {
		s.await("a pool that drains", func(b *scoreboard.Snapshot) bool { return b.State == "draining" && len(b.Children) == 1 })
		conn.Close()
	}()
	_, told = s.gets(control.Request{Verb: control.VerbDrain})
	hears(told, "draining: 1 child is left")
	if b := s.board(); b.State != "drained" || len(b.Children) != 0 {
		t.Errorf("answered while it is %s, with %d children", b.State, len(b.Children))
	}
	s.gets(control.Request{Verb: control.VerbScale, N: 2})
	_, told = s.gets(control.Request{Verb: control.VerbStop})
	hears(told, "stopping: 2 children are left")
	if !s.over(patience) {
		t.Fatal("the daemon does not stop")
	}
}

// Nobody is refused while the pool is empty: clients wait until there are children again, also over an upgrade.
func TestDrainedListens(t *testing.T) {
	t.Parallel()
	s := start(t, lines)
	s.signal(unix.SIGWINCH, s.cmd.Process.Pid)
	if !hasTerminal() {
		s.await("nobody", func(b *scoreboard.Snapshot) bool { return b.State == "drained" && len(b.Children) == 0 })
	}
	s.gets(control.Request{Verb: control.VerbDrain})
	born := s.board().Born
	conn := s.dial("tcp4")
	answer := make(chan error, 1)
	go func() {
		io.WriteString(conn, "who\n")
		_, err := conn.Read(make([]byte, 1))
		answer <- err
	}()
	s.gets(control.Request{Verb: control.VerbUpgrade})
	if b := s.await("nobody", func(b *scoreboard.Snapshot) bool { return b.State == "drained" }); b.Born != born {
		t.Errorf("%d children were born meanwhile", b.Born-born)
	}
	select {
	case err := <-answer:
		t.Fatalf("answered while there was nobody: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.gets(control.Request{Verb: control.VerbReload})
	if err := <-answer; err != nil {
		t.Errorf("who has waited: %v", err)
	}
	if b := s.board(); b.Generation != 2 {
		t.Errorf("generation %d", b.Generation)
	}
	s.stop(unix.SIGTERM)
}

// hasTerminal reports whether the daemons that this process starts have a controlling terminal.
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// The level of the log moves while the daemon runs, and stays over an upgrade. What is on record does not depend on it.
func TestLogLevel(t *testing.T) {
	t.Parallel()
	run := func(level string) (log string, kinds []string) {
		s := start(t, lines, "BROOD_LOG_LEVEL=error", "BROOD_POOL=static")
		if reply, _ := s.gets(control.Request{Verb: control.VerbLogLevel}); reply.Text != "error" {
			t.Errorf("the level is %q, want that of the configuration", reply.Text)
		}
		if reply, _ := s.gets(control.Request{Verb: control.VerbLogLevel, Level: level}); reply.Text != level {
			t.Errorf("the level is %q, want %q", reply.Text, level)
		}
		s.gets(control.Request{Verb: control.VerbUpgrade})
		if reply, _ := s.gets(control.Request{Verb: control.VerbLogLevel}); reply.Text != level {
			t.Errorf("the level is %q after an upgrade, want %q", reply.Text, level)
		}
		s.gets(control.Request{Verb: control.VerbUpgrade})
		s.gets(control.Request{Verb: control.VerbDrain, PID: s.serving()[0].PID})
		s.await("two children", func(b *scoreboard.Snapshot) bool { return len(s.serving()) == 2 })
		for _, e := range s.recorded() {
			kinds = append(kinds, e.Kind.String())
		}
		s.gets(control.Request{Verb: control.VerbStop})
		if !s.over(patience) {
			t.Fatal("the daemon does not stop")
		}
		slices.Sort(kinds)
		return s.log(), kinds
	}
	var all [][]string
	for level, want := range map[string]map[string]bool{
		"debug": {"level=DEBUG": true, "level=INFO": true},
		"info":  {"level=DEBUG": false, "level=INFO": true},
		"error": {"level=DEBUG": false, "level=INFO": false},
	} {
		log, kinds := run(level)
		for text, there := range want {
			if strings.Contains(log, text) != there {
				t.Errorf("at level %s: %q in the log is %v, want %v:\n%s", level, text, !there, there, log)
			}
		}
		all = append(all, kinds)
	}
	for _, kinds := range all[1:] {
		if !slices.Equal(kinds, all[0]) {
			t.Errorf("on record is, at different levels,\n%q\n%q", kinds, all[0])
		}
	}
}

// Not more than eight are served at once; the ninth waits for his turn, and is not lost.
func TestOperatorsTakeTurns(t *testing.T) {
	t.Parallel()
	s := start(t, lines)
	atRest := s.connections()
	var silent []*net.UnixConn
	for range 8 {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: s.path("run/" + control.SocketName), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	eventually(t, "eight connections", func() bool { return s.connections() >= atRest+8 })
	answered := make(chan error, 1)
	go func() {
		_, err := control.Ask(t.Context(), s.path("run"), control.Request{Verb: control.VerbStatus}, nil)
		answered <- err
	}()
	select {
	case <-answered:
		t.Fatal("a ninth was served beside eight others")
	case <-time.After(200 * time.Millisecond):
	}
	silent[0].Close()
	if err := <-answered; err != nil {
		t.Errorf("the ninth: %v", err)
	}
	s.stop(syscall.SIGTERM)
}

// connections is how many sockets the parent has.
func (s *site) connections() int {
	n := 0
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	for _, fd := range fds {
		path, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", s.cmd.Process.Pid, fd.Name()))
		if strings.HasPrefix(path, "socket:") {
			n++
		}
	}
	return n
}

// Who closes his half of the connection when he has asked, as socat(1) does, has his answer all the same.
func TestOperatorsCloseTheirHalf(t *testing.T) {
	t.Parallel()
	s := start(t, lines)
	for _, request := range []string{
		`{"verb":"status"}`, `{"verb":"reopen"}`, `{"verb":"log-level","level":"debug"}`, `{"verb":"scale","n":4}`, `{"verb":"drain"}`, `{"verb":"stop"}`,
	} {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: s.path("run/" + control.SocketName), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, request+"\n"); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		answer, err := io.ReadAll(c)
		if i := bytes.LastIndexByte(bytes.TrimSpace(answer), '\n') + 1; err != nil || !bytes.HasPrefix(answer[i:], []byte(`{"ok":true`)) {
			t.Errorf("%s: answered %.200q, %v", request, answer, err)
		}
	}
}

// Who takes his time for his request keeps nobody from anything, and when he has said all of it he has his answer, from whoever is there.
func TestOperatorsTakeTheirTime(t *testing.T) {
	t.Parallel()
	s := start(t, lines)
	var slow []*net.UnixConn
	for _, begin := range []string{"", "{", `{"verb":`} {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: s.path("run/" + control.SocketName), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, begin); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	begun := time.Now()
	s.gets(control.Request{Verb: control.VerbUpgrade})
	if d := time.Since(begun); d > control.RequestTime/2 {
		t.Errorf("the upgrade has waited for them: %v", d)
	}
	for i, rest := range []string{`{"verb":"status"}`, `"verb":"log-level"}`, `"reopen"}`} {
		if _, err := io.WriteString(slow[i], rest+"\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(slow[i]); err != nil || !bytes.HasPrefix(answer, []byte(`{"ok":true`)) {
			t.Errorf("%s: %.200q, %v", rest, answer, err)
		}
	}
	s.stop(syscall.SIGTERM)
}
