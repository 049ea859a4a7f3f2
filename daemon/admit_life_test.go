package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/scoreboard"
)

// refused is how many clients were refused.
func refused(b *scoreboard.Snapshot) int {
	n := b.Refused
	for _, c := range b.Children {
		n += c.Refused
	}
	return int(n)
}

// tryFrom connects from an address of this machine.
func (s *site) tryFrom(addr string) (net.Conn, error) {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: patience}
	conn, err := d.Dial("tcp4", s.addr("tcp4"))
	if err == nil {
		s.t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// dialFrom is tryFrom for those who may connect.
func (s *site) dialFrom(addr string) net.Conn {
	s.t.Helper()
	conn, err := s.tryFrom(addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// Who may not connect is told so before he has said anything, whoever accepts him. He is no job, and nobody is asked what his leaving
// means; that he was there outlives the child that has refused him.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ scenario, concurrency string }{{lines, "1"}, {raw, "1"}, {raw, "4"}, {web, "1"}, {web, "4"}} {
		t.Run(c.scenario+" "+c.concurrency, func(t *testing.T) {
			t.Parallel()
			s := start(t, c.scenario, "BROOD_PREFORK=1", "BROOD_MAX_CHILDREN=1", "BROOD_CONCURRENCY="+c.concurrency, "BROOD_MAX_REQUESTS=2",
				"BROOD_DENY=127.0.0.2 unix", "POLICY=ignore", "BROOD_SOAK=10ms")
			pid := s.serving()[0].PID
			for range 5 {
				conn, err := s.tryFrom("127.0.0.2")
				if err == nil { // else the reset was there before connect(2) had returned
					_, err = conn.Read(make([]byte, 1))
				}
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("by TCP he gets %v", err)
				}
				if n, err := s.dial("unix").Read(make([]byte, 1)); n > 0 || err != io.EOF {
					t.Errorf("by a Unix socket he reads %d bytes, %v", n, err)
				}
			}
			conn := s.dialFrom("127.0.0.3")
			if c.scenario == lines {
				askWho(t, conn, "who")
			} else {
				request(t, conn, "GET", "/who", "", "Connection: close")
				if b, err := io.ReadAll(conn); err != nil || !strings.Contains(string(b), "200 OK") {
					t.Errorf("who may connect reads %q, %v", b, err)
				}
			}
			b := s.await("one job", func(b *scoreboard.Snapshot) bool { return b.Children[0].Done == 1 && refused(b) == 10 })
			if b.Born != 1 || b.Lost+b.Died+b.Killed > 0 || skipped(b) > 0 || b.Children[0].PID != pid {
				t.Errorf("the scoreboard: %+v", b)
			}
			s.reload()
			b = s.await("the old child to leave and to be counted", func(b *scoreboard.Snapshot) bool { return s.left(b, pid) && b.Refused > 0 })
			if refused(b) != 10 {
				t.Errorf("after a reload %d were refused", refused(b))
			}
			if log := s.log(); !strings.Contains(log, `msg="client refused" slot=0 `) || !strings.Contains(log, `addr=127.0.0.2 rule="deny 127.0.0.2"`) {
				t.Errorf("the log says:\n%s", log)
			}
		})
	}
}

// lookedUp waits until a child looks up the name of a client.
func (s *site) lookedUp() {
	s.t.Helper()
	s.await("somebody to be looked up", func(b *scoreboard.Snapshot) bool {
		return b.Children[0].State == scoreboard.Reading && b.Children[0].Running == 0
	})
}

// Whoever is being looked up when his child is to leave, or when its parent dies, is served by that child.
func TestLookUpOutlives(t *testing.T) {
	for _, c := range []struct{ scenario, concurrency string }{{lines, "1"}, {web, "1"}, {web, "4"}} {
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(fmt.Sprint(c.scenario, " ", c.concurrency, " ", sig), func(t *testing.T) {
				t.Parallel()
				s := start(t, c.scenario, "BROOD_PREFORK=1", "BROOD_CONCURRENCY="+c.concurrency, "BROOD_ALLOW=a.example.org",
					"NAMES=127.0.0.1=a.example.org", "NAMES_AFTER=1s", "BROOD_LINGER_TIMEOUT=100ms", "BROOD_SOAK=10ms")
				pid := s.serving()[0].PID
				conn := s.dial("tcp4")
				s.lookedUp()
				s.signal(sig, s.board().PID)
				if c.scenario == lines {
					if by, _ := askWho(t, conn, "who"); by != pid {
						t.Errorf("served by %d, not by %d", by, pid)
					}
					return
				}
				request(t, conn, "GET", "/who", "", "Connection: close")
				if b, err := io.ReadAll(conn); err != nil || !strings.Contains(string(b), fmt.Sprint("\r\n\r\n", pid, " ")) {
					t.Errorf("not served by %d: %q, %v", pid, b, err)
				}
			})
		}
	}
}

// While somebody is looked up, a child with room for more takes others.
func TestLookUpAlone(t *testing.T) {
	for _, scenario := range []string{web, served} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			lookUpAlone(t, scenario)
		})
	}
}

// served answers whatever it is asked, by serve.Conns.
var served = scenario("served", func() daemon.Config {
	return everywhere(serve.Conns(func(_ context.Context, conn net.Conn) {
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, "200 OK\n")
	}))
})

func lookUpAlone(t *testing.T, scenario string) {
	t.Helper()
	s := start(t, scenario, "BROOD_PREFORK=1", "BROOD_MAX_CHILDREN=1", "BROOD_CONCURRENCY=4", "BROOD_ALLOW=a.example.org 127.0.0.3", "NAMES=127.0.0.1=a.example.org",
		"NAMES_AFTER=1500ms")
	s.serving()
	for i := range 10 {
		s.dialFrom(fmt.Sprint("127.0.1.", i)) // who has not been seen before
		s.lookedUp()
		conn := s.dialFrom("127.0.0.3")
		request(t, conn, "GET", "/who", "", "Connection: close")
		if b, err := io.ReadAll(conn); err != nil || !strings.Contains(string(b), "200 OK") {
			t.Fatalf("he reads %q, %v", b, err)
		}
		if b := s.board(); refused(b) == i { // the other one still waits
			return
		}
		s.await("the other one to be refused", func(b *scoreboard.Snapshot) bool { return refused(b) == i+1 })
	}
	t.Error("nobody was served while somebody was looked up")
}

// hosted tells each client what his host is called.
var hosted = scenario("hosted", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		for conn := range c.Conns(ctx) {
			fmt.Fprintf(conn, "%q\n", conn.Host())
		}
		return nil
	})
})

// A job can ask what its client's host is called, also if nobody has had it looked up before.
func TestHost(t *testing.T) {
	for _, env := range []string{"BROOD_REVERSE_LOOKUPS=false", "BROOD_REVERSE_LOOKUPS=true", "BROOD_ALLOW=all a.example.org"} {
		t.Run(env, func(t *testing.T) {
			t.Parallel()
			s := start(t, hosted, env, "NAMES=127.0.0.1=A.example.org", "NAMES_AFTER=20ms")
			for range 2 {
				for from, want := range map[string]string{"127.0.0.1": `"a.example.org"`, "127.0.0.2": `""`} {
					if b, err := io.ReadAll(s.dialFrom(from)); err != nil || string(b) != want+"\n" {
						t.Errorf("%s is called %s, %v, want %s", from, b, err, want)
					}
				}
			}
			if b, err := io.ReadAll(s.dial("unix")); err != nil || string(b) != "\"\"\n" {
				t.Errorf("on a Unix socket: %s, %v", b, err)
			}
		})
	}
}

// The access log has the name in the place of the address, also if the job's child is killed; where it is not known in time, the
// address.
func TestReverseLookups(t *testing.T) {
	for _, after := range []string{"0s", "10s"} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			s := start(t, lines, "BROOD_PREFORK=1", "BROOD_REVERSE_LOOKUPS=true", "NAMES=127.0.0.1=a.example.org", "NAMES_AFTER="+after,
				"BROOD_ACCESS_LOG=access")
			has := func(end, host string) bool {
				b, _ := os.ReadFile(s.path("access"))
				for l := range strings.Lines(string(b)) {
					if strings.Contains(l, `end="`+end+`"`) && strings.HasPrefix(l, host+" - - [") {
						return true
					}
				}
				return false
			}
			host := map[string]string{"0s": "a.example.org", "10s": "127.0.0.1"}[after]
			// A name is looked for while a job runs, and then known to the next ones from the beginning.
			pid := 0
			eventually(t, "a line that begins with "+host, func() bool {
				conn := s.dial("tcp4")
				pid, _ = askWho(t, conn, "who")
				io.ReadAll(conn)
				return has("done", host)
			})
			askWho(t, s.dial("tcp4"), "gate dies")
			s.signal(syscall.SIGKILL, pid)
			eventually(t, "the same of a job whose child has died", func() bool { return has("died", host) })
		})
	}
}
