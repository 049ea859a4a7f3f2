package daemon_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/netmon"
	"github.com/brooddaemon/brood/scoreboard"
)

var confirmed atomic.Int32

// confirm notes that it is asked and does what the variable CONFIRM says.
func confirm(conn *daemon.Conn) bool {
	n := confirmed.Add(1)
	note(event{What: "asked", Text: fmt.Sprint(daemon.JobOf(conn.Context()) != nil)})
	switch os.Getenv("CONFIRM") {
	case "yes":
		return true
	case "panic":
		panic("who knows")
	case "goexit":
		runtime.Goexit()
	case "probe": // a client who is there takes it, one who is not answers with a reset
		fmt.Fprintln(conn, "are you there?")
	case "gate": // the first one is told late, and wrong
		awaitGate(context.Background(), "confirm")
		return n == 1
	case "hang":
		awaitGate(context.Background(), "never")
	}
	return false
}

// held is a client of a job that waits for its gate.
type held struct {
	s    *site
	id   string
	pid  int
	conn *visit
	web  bool
}

func (s *site) held(scenario, network, id string, w way) *held {
	s.t.Helper()
	verb := "gate"
	if w.name == "FIN" { // who is not there any more answers to an answer with a reset
		verb = "quiet"
	}
	h := &held{s: s, id: id, conn: s.visit(network), web: scenario != lines}
	if h.web {
		request(s.t, h.conn, "GET", "/hold?gate=1&id="+id, "")
	} else {
		say(s.t, h.conn, verb+" "+id)
		h.conn.r.ReadString('\n')
	}
	h.pid = s.event("begin", id).PID
	return h
}

// goesOn checks that the job is not cancelled, and that its client, if he still reads, gets the answer.
func (h *held) goesOn(reads bool) {
	h.s.t.Helper()
	h.s.open(h.id)
	if e := h.s.event("end", h.id); e.Text != "not cancelled" {
		h.s.t.Errorf("%s ends: %s", h.id, e.Text)
	}
	if rest, err := io.ReadAll(h.conn.r); reads && (err != nil || !strings.HasSuffix(string(rest), "bye\n")) {
		h.s.t.Errorf("%s reads %q, %v", h.id, rest, err)
	}
}

// B39: with HalfCloseIgnore a FIN is nothing; a reset is, also after a FIN, and so is the close of a Unix socket.
func TestHalfCloseIgnore(t *testing.T) {
	for _, c := range []struct{ scenario, concurrency string }{{lines, "1"}, {lines, "4"}, {web, "1"}, {web, "4"}} {
		t.Run(c.scenario+" "+c.concurrency, func(t *testing.T) {
			t.Parallel()
			s := start(t, c.scenario, "BROOD_PREFORK=1", "BROOD_HALF_CLOSE=ignore", "BROOD_CONCURRENCY="+c.concurrency)
			n := 0
			for _, network := range networks() {
				for _, w := range ways {
					id := network + w.name
					h := s.held(c.scenario, network, id, w)
					w.leave(t, h.conn.Conn)
					how := netmon.Reset
					switch {
					case w.name == "half", w.name == "FIN" && network != "unix":
						h.goesOn(w.name == "half")
						continue
					case network == "unix":
						how = netmon.Closed
					}
					n++
					if got := s.lost(n)[n-1]; got.How != how || got.PID != h.pid {
						t.Errorf("%s: told %+v", id, got)
					}
					s.event("end", id)
				}
				if network == "unix" {
					continue
				}
				h := s.held(c.scenario, network, network+"later", ways[2])
				ways[2].leave(t, h.conn.Conn)
				ways[1].leave(t, h.conn.Conn)
				n++
				if got := s.lost(n)[n-1]; got.How != netmon.Reset {
					t.Errorf("a reset after a FIN: told %+v", got)
				}
				s.event("end", network+"later")
			}
			if all := s.lost(n); len(all) != n {
				t.Errorf("told %d times of %d clients", len(all), n)
			}
		})
	}
}

// With HalfCloseConfirm the program says whether a FIN means that a client has left. It is asked once for each job.
func TestHalfCloseConfirm(t *testing.T) {
	for _, c := range []struct {
		confirm, says string
		gone          bool
	}{
		{"yes", "", true}, {"no", "", false},
		{"panic", "ConfirmGone panicked: who knows", false}, {"goexit", "", false},
	} {
		for _, scenario := range []string{lines, web} {
			t.Run(c.confirm+" "+scenario, func(t *testing.T) {
				t.Parallel()
				s := start(t, scenario, "BROOD_PREFORK=1", "CONFIRM="+c.confirm)
				n, asked := 0, 0
				for _, network := range networks() {
					for _, w := range ways {
						id := network + w.name
						h := s.held(scenario, network, id, w)
						w.leave(t, h.conn.Conn)
						fin := w.name == "half" || w.name == "FIN" && network != "unix"
						if fin {
							asked++
							eventually(t, "it to be asked", func() bool { return len(s.eventsOf("asked", "")) == asked })
						}
						if fin && !c.gone {
							h.goesOn(w.name == "half")
						} else {
							n++
							if got := s.lost(n)[n-1]; got.PID != h.pid || fin && got.How != w.how(network) {
								t.Errorf("%s: told %+v", id, got)
							}
							s.event("end", id)
						}
						s.idle(h.pid, uint64(len(s.eventsOf("end", ""))))
					}
				}
				if all, es := s.lost(n), s.eventsOf("asked", ""); len(all) != n || len(es) != asked || es[0].Text != "true" {
					t.Errorf("told %d times of %d clients, asked %d times of %d", len(all), n, len(es), asked)
				}
				if !strings.Contains(s.log(), c.says) {
					t.Errorf("the log does not say %q", c.says)
				}
			})
		}
	}
}

// With HalfCloseConfirm and nobody to ask, the kernel tells of clients on this host who has closed and who waits.
func TestHalfCloseKernel(t *testing.T) {
	for _, network := range networks() {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			s := start(t, lines, "BROOD_PREFORK=3", "BROOD_HALF_CLOSE=confirm")
			closes, waits := s.held(lines, network, "closes", ways[0]), s.held(lines, network, "waits", ways[2])
			ways[2].leave(t, waits.conn.Conn)
			ways[0].leave(t, closes.conn.Conn)
			if got := s.lost(1)[0]; got.PID != closes.pid || got.How != netmon.Closed {
				t.Errorf("told %+v", got)
			}
			if e := s.event("end", "closes"); e.Text != "client gone" {
				t.Errorf("the job ends: %s", e.Text)
			}
			waits.goesOn(true)
			// Who has waited may give up.
			fickle := s.held(lines, network, "fickle", ways[2])
			ways[2].leave(t, fickle.conn.Conn)
			s.remains("who waits is no loss", func() bool { return len(s.lost(1)) == 1 })
			fickle.conn.Close()
			if got := s.lost(2)[1]; got.PID != fickle.pid || got.How != netmon.Closed {
				t.Errorf("told %+v", got)
			}
		})
	}
}

// Who is asked whether a client is there may write to him: who has closed all of it answers with a reset.
func TestHalfCloseProbe(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=2", "CONFIRM=probe")
	stays, leaves := s.held(lines, "tcp4", "stays", ways[2]), s.held(lines, "tcp4", "leaves", ways[0])
	ways[2].leave(t, stays.conn.Conn)
	ways[0].leave(t, leaves.conn.Conn)
	if got := s.lost(1)[0]; got.PID != leaves.pid || got.How != netmon.Reset {
		t.Errorf("told %+v", got)
	}
	if e := s.event("end", "leaves"); e.Text != "client gone" {
		t.Errorf("the job ends: %s", e.Text)
	}
	stays.goesOn(true)
	if n := len(s.lost(1)); n != 1 {
		t.Errorf("%d clients are lost", n)
	}
}

// An answer that takes too long is not waited for, and a client whose host is reset meanwhile is lost all the same.
func TestHalfCloseHangs(t *testing.T) {
	t.Parallel()
	s := start(t, lines, "BROOD_PREFORK=1", "CONFIRM=hang")
	h := s.held(lines, "tcp4", "one", ways[2])
	ways[2].leave(t, h.conn.Conn)
	eventually(t, "the log to say so", func() bool { return strings.Contains(s.log(), "ConfirmGone has not answered within 5s") })
	ways[1].leave(t, h.conn.Conn)
	if got := s.lost(1)[0]; got.How != netmon.Reset {
		t.Errorf("told %+v", got)
	}
	s.event("end", "one")
}

// B41: an answer that comes when the job is over is none about the next one on the same connection.
func TestHalfCloseLate(t *testing.T) {
	t.Parallel()
	s := start(t, web, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=4", "CONFIRM=gate")
	v := s.visit("tcp4")
	for _, id := range []string{"first", "second"} {
		request(t, v.Conn, "POST", "/hold?gate=1&id="+id, "unread")
	}
	s.event("begin", "first")
	ways[2].leave(t, v.Conn)
	eventually(t, "it to be asked", func() bool { return len(s.eventsOf("asked", "")) == 1 })
	s.open("first")
	s.event("begin", "second")
	eventually(t, "it to be asked again", func() bool { return len(s.eventsOf("asked", "")) == 2 })
	s.open("confirm")
	s.remains("nobody lost", func() bool { return len(linesOf[lost](s, "lost")) == 0 })
	s.open("second")
	if e := s.event("end", "second"); e.Text != "not cancelled" {
		t.Errorf("the second job ends: %s", e.Text)
	}
}

// What the parent finds in the kernel's tables is treated in the same way: a FIN does not count, or its child is asked.
func TestHalfCloseSweep(t *testing.T) {
	for _, policy := range []string{"BROOD_HALF_CLOSE=ignore", "CONFIRM=yes"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := start(t, lines, "BROOD_PREFORK=2", policy)
			conn, pid := s.stopped("tcp4", "gate one")
			conn.Close()
			s.remains("nobody lost", func() bool { return len(linesOf[lost](s, "lost")) == 0 })
			s.signal(syscall.SIGCONT, pid)
			if policy == "CONFIRM=yes" {
				s.lost(1)
				s.event("end", "one")
				return
			}
			s.remains("nobody lost", func() bool { return len(linesOf[lost](s, "lost")) == 0 })
			s.open("one")
			if e := s.event("end", "one"); e.Text != "not cancelled" {
				t.Errorf("the job ends: %s", e.Text)
			}
			s.await("rest", func(b *scoreboard.Snapshot) bool { return b.Children[0].Running+b.Children[1].Running == 0 })
		})
	}
}
