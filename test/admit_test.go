package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// visitFrom asks from an address of this machine and returns the answer. It says nothing before it has waited for a verdict on who it
// is, if that is to be silent: then the error is what becomes of somebody who only listens.
func visitFrom(addr, to string, listenOnly bool) error {
	_, port, err := net.SplitHostPort(to)
	if err != nil {
		return err
	}
	network, host := "tcp4", "127.0.0.1"
	if strings.Contains(addr, ":") {
		network, host = "tcp6", "::1"
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: requestTime}
	conn, err := d.Dial(network, net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	defer conn.Close()
	if listenOnly {
		_, err := conn.Read(make([]byte, 1))
		return err
	}
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	b := make([]byte, 12)
	if _, err := conn.Read(b); err != nil {
		return err
	}
	if string(b) != "HTTP/1.1 200" {
		return fmt.Errorf("answered %q", b)
	}
	return nil
}

// By prefix, address, regular expression and name, for both families, on a socket of one and on one of both. Who may not connect
// learns that before he has said anything; no job runs, and no child is replaced for having done as many as it may.
func TestAdmit(t *testing.T) {
	t.Parallel()
	type list []string
	for name, c := range map[string]struct {
		listen      string
		flags       list
		in, refused list
	}{
		"deny": {"127.0.0.1:0", list{"-deny", "127.0.0.2", "-deny", "127.0.3.0/24", "-deny", `/127\.0\.0\.4/`},
			list{"127.0.0.1", "127.0.2.1", "127.0.0.42"}, list{"127.0.0.2", "127.0.3.77", "127.0.0.4"}},
		"allow": {"127.0.0.1:0", list{"-allow", "127.0.0.0/24", "-deny", "127.0.0.2"},
			list{"127.0.0.1", "127.0.0.3"}, list{"127.0.0.2", "127.0.1.1"}},
		"both families": {"[::]:0", list{"-allow", "::1", "-allow", "127.0.0.0/24", "-deny", "127.0.0.2"},
			list{"::1", "127.0.0.1"}, list{"127.0.0.2", "127.0.1.1"}},
		"not ::1":   {"[::]:0", list{"-deny", "::/0"}, list{"127.0.0.1"}, list{"::1"}},
		"localhost": {"127.0.0.1:0", list{"-allow", "localhost"}, list{"127.0.0.1"}, nil},
		"not it":    {"127.0.0.1:0", list{"-allow", "all", "-deny", "localhost"}, nil, list{"127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(c.listen, "[") && !hasIPv6() {
				t.Skip("there is no IPv6 here")
			}
			if strings.Contains(strings.Join(c.flags, " "), "localhost") && !callsItselfLocalhost() {
				t.Skip("/etc/hosts has no localhost")
			}
			s := openSite(t)
			d, err := s.serve(nil, "jobs", append(c.flags, "-listen", c.listen, "-prefork", "1", "-max-requests", "100")...)
			if err != nil {
				t.Fatal(err)
			}
			for _, addr := range c.in {
				if err := visitFrom(addr, d.addr, false); err != nil {
					t.Errorf("%s may connect: %v", addr, err)
				}
			}
			for i := range 2 * len(c.refused) {
				addr := c.refused[i/2]
				if err := visitFrom(addr, d.addr, i%2 == 0); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("%s may not connect, and gets %v", addr, err)
				}
			}
			if _, err := d.await(fmt.Sprint("refused=", 2*len(c.refused)), fmt.Sprint("done=", len(c.in)), "born=1", "lost=0", "skipped=0"); err != nil {
				t.Error(err)
			}
		})
	}
}

func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}

// callsItselfLocalhost reports whether the name of 127.0.0.1 can be found out without asking anybody.
func callsItselfLocalhost() bool {
	b, _ := os.ReadFile("/etc/hosts")
	return regexp.MustCompile(`(?m)^127\.0\.0\.1\s+(.*\s)?localhost\b`).Match(b)
}

// Somebody who may not connect does so again and again: others are served meanwhile, the log does not grow with it, and it counts all of
// them. Neither jobs nor children are used up, and the count outlives a reload.
func TestAdmitFlood(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	const flood = 3000
	s := openSite(t)
	d, err := s.serve(nil, "jobs", "-prefork", "2", "-max-requests", "100", "-deny", "127.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	for i := range flood {
		if err := visitFrom("127.0.0.2", d.addr, true); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("number %d: %v", i, err)
		}
		if i%500 == 0 {
			if _, err := get(d.addr + "/"); err != nil {
				t.Errorf("after %d: %v", i, err)
			}
		}
	}
	if _, err := d.await(fmt.Sprint("refused=", flood), fmt.Sprint("done=", flood/500), "born=2", "died=0", "lost=0"); err != nil {
		t.Error(err)
	}
	lines, told := refusedLines(t, d.log)
	if lines == 0 || lines > 30 || told > flood {
		t.Errorf("%d lines tell of %d refusals", lines, told)
	}
	if out, err := s.command("brood", "reload", d.run).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := d.await("generation=2", "children=2", "idle=2", fmt.Sprint("refused=", flood)); err != nil {
		t.Error(err)
	}
}

var refusedLine = regexp.MustCompile(`msg="client refused" .*addr=127\.0\.0\.2 rule="deny 127\.0\.0\.2"(?: untold=(\d+))?$`)

// refusedLines counts lines of the log, and the refusals that they tell of.
func refusedLines(t *testing.T, log string) (lines, told int) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if m := refusedLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			n, _ := strconv.Atoi(m[1])
			lines++
			told += n + 1
		}
	}
	return lines, told
}

// The access log has the name of the client's host in the place of his address.
func TestAdmitHostInAccessLog(t *testing.T) {
	t.Parallel()
	if !callsItselfLocalhost() {
		t.Skip("/etc/hosts has no localhost")
	}
	s := openSite(t)
	path := filepath.Join(s.dir, "access.log")
	d, err := s.serve(nil, "jobs", "-prefork", "1", "-reverse-lookups", "-access-log", path, "-access-format", "json")
	if err != nil {
		t.Fatal(err)
	}
	if err := eventually(patience, func() error {
		if _, err := get(d.addr + "/"); err != nil {
			return failure{err}
		}
		b, err := os.ReadFile(path)
		if err == nil && !regexp.MustCompile(`"client":"127\.0\.0\.1:\d+","host":"[a-z0-9.-]+",`).Match(b) {
			err = fmt.Errorf("the access log says %s", b)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
