package daemon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// accessed waits until the access log has n lines, and returns how their jobs ended, by what they were.
func (s *site) accessed(n int) map[string][]string {
	s.t.Helper()
	var ends map[string][]string
	eventually(s.t, fmt.Sprint(n, " access lines"), func() bool {
		log, err := os.ReadFile(s.path("access.log"))
		ends = map[string][]string{}
		got := 0
		for line := range strings.Lines(string(log)) {
			var l struct {
				Request, End string
				Status       int
				Bytes        int64
			}
			if jerr := json.Unmarshal([]byte(line), &l); jerr != nil {
				s.t.Fatalf("%v: %q", jerr, line)
			}
			ends[l.Request] = append(ends[l.Request], fmt.Sprint(l.Status, " ", l.End))
			got++
		}
		if got > n {
			s.t.Fatalf("%d access lines, want %d:\n%s", got, n, log)
		}
		return err == nil && got == n
	})
	return ends
}

// logged makes a site's daemon keep an access log in its directory.
func logged(s *site) {
	s.cmd.Env = append(s.cmd.Env, "BROOD_ACCESS_LOG="+s.path("access.log"), "BROOD_ACCESS_FORMAT=json")
}

func (s *site) wantEnds(n int, want map[string]string) {
	s.t.Helper()
	got := s.accessed(n)
	for request, end := range want {
		if fmt.Sprint(got[request]) != end {
			s.t.Errorf("%s: %v, want %s", request, got[request], end)
		}
	}
}

// Many requests on one connection of HTTP/2: each has a line of its own, also one that is given up, and those that end with the
// connection.
func TestAccessHTTP2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startTLS(t, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=8", "BROOD_ACCESS_LOG="+dir+"/access.log", "BROOD_ACCESS_FORMAT=json")
	if err := os.Symlink(dir+"/access.log", s.path("access.log")); err != nil {
		t.Fatal(err)
	}
	c, hangUp := s.client()
	var all sync.WaitGroup
	hold := func(ctx context.Context, id string) {
		all.Go(func() {
			r, _ := http.NewRequestWithContext(ctx, "POST", "https://"+s.addr("tcp4")+"/hold?id="+id, strings.NewReader("unread"))
			if resp, err := c.Do(r); err == nil {
				t.Errorf("%s is answered", id)
				resp.Body.Close()
			}
		})
		s.event("begin", id)
	}
	for range 3 {
		if _, err := s.get(c, "/who"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, giveUp := context.WithCancel(context.Background())
	hold(ctx, "givenup")
	giveUp()
	s.event("end", "givenup")
	hold(context.Background(), "one")
	hold(context.Background(), "two")
	hangUp()
	all.Wait()
	s.wantEnds(6, map[string]string{
		"GET /who HTTP/2.0":              "[200 done 200 done 200 done]",
		"POST /hold?id=givenup HTTP/2.0": "[200 cancelled: client gone]", // what the handler has answered to nobody
		"POST /hold?id=one HTTP/2.0":     "[200 cancelled: client gone]",
		"POST /hold?id=two HTTP/2.0":     "[200 cancelled: client gone]",
	})
	s.stop(syscall.SIGTERM)
	s.accessed(6)
}

// A connection that a handler has taken over is one line, when it is closed.
func TestAccessHijacked(t *testing.T) {
	t.Parallel()
	s := launchAs(t, web, logged, "BROOD_PREFORK=1", "BROOD_CONCURRENCY=4", listen("tcp4"))
	s.served()
	v := s.visit("tcp4")
	v.who()
	v.who()
	for _, path := range []string{"/hijack", "/detach"} {
		conn := s.dial("tcp4")
		request(t, conn, "GET", path+"?id="+path[1:], "")
		s.event("begin", path[1:])
		s.accessed(2)
		conn.Close()
		s.event("end", path[1:])
		if path == "/hijack" {
			s.accessed(3)
			os.Remove(s.path("access.log"))
			s.signal(syscall.SIGUSR1, s.cmd.Process.Pid)
			eventually(t, "a new access log", func() bool { _, err := os.Stat(s.path("access.log")); return err == nil })
			v.who()
			v.who()
		}
	}
	s.wantEnds(3, map[string]string{
		"GET /who HTTP/1.1":              "[200 done 200 done]",
		"GET /detach?id=detach HTTP/1.1": "[499 cancelled: client gone]",
	})
	s.stop(syscall.SIGTERM)
}

// Work that nobody has connected for has its lines, too.
func TestAccessDo(t *testing.T) {
	t.Parallel()
	s := launchAs(t, queue, logged)
	many := 0
	eventually(t, "the lines of 40 jobs", func() bool {
		log, _ := os.ReadFile(s.path("access.log"))
		many = strings.Count(string(log), `"request":"one of many","status":0,`)
		return many >= 40
	})
	s.stop(syscall.SIGTERM)
	if many != 40 {
		t.Errorf("%d lines of 40 jobs", many)
	}
}
