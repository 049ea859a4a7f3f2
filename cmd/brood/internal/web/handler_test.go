package web

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNew(t *testing.T) {
	for _, all := range [][]Daemon{nil, {{"a", "/x"}, {"a", "/y"}}, {{"a/b", "/x"}}, {{"", "/x"}}} {
		if _, err := New(all); err == nil {
			t.Errorf("%v is accepted", all)
		}
	}
}

// Whatever is asked, with whatever method but GET and HEAD, nothing is done.
func TestOnlyReading(t *testing.T) {
	h := newServer(t, Daemon{"d", t.TempDir()}).Handler()
	for _, path := range []string{"/", "/stream", "/metrics", "/healthz", "/status.json", "/d/d/", "/static/main.js", "/nothing"} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, "http://localhost"+path, nil))
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/", strings.NewReader("body")))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a request with a body: %d", w.Code)
	}
}

// A name that somebody has lead here is not answered for: a page under that name could read what it is told.
func TestRebinding(t *testing.T) {
	s, err := New([]Daemon{{"d", t.TempDir()}}, "status.example")
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler()
	for host, ok := range map[string]bool{
		"localhost": true, "localhost:9180": true, "LocalHost.": true, "127.0.0.1:9180": true, "127.8.8.8": true, "[::1]:9180": true,
		"[::ffff:127.0.0.1]:1": true, "192.0.2.7:9180": true, "status.example": true, "STATUS.example:443": true,
		"": false, "evil.example": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "192.0.2.8": false,
		"status.example.evil": false, "[::2]": false, "0.0.0.0": false, "127.1": false,
	} {
		r := httptest.NewRequest("GET", "/healthz", nil)
		r.Host = host
		here := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.7:9180"))
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, here))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Code != http.StatusMisdirectedRequest; got != ok {
			t.Errorf("host %q: %d", host, w.Code)
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newServer(t, Daemon{"d", t.TempDir()})
	for _, path := range []string{"/", "/d/d/", "/metrics", "/healthz", "/status.json", "/static/main.js", "/static/style.css", "/nothing"} {
		_, h, _ := get(t, s, path)
		for key, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
		} {
			if h.Get(key) != want {
				t.Errorf("%s: %s is %q", path, key, h.Get(key))
			}
		}
	}
	r := httptest.NewRequest("GET", "http://localhost/stream", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	if s.Handler().ServeHTTP(w, r); w.Code != http.StatusForbidden {
		t.Errorf("a page of others gets %d", w.Code)
	}
}

func TestFiles(t *testing.T) {
	s := newServer(t, Daemon{"d", t.TempDir()})
	for path, kind := range map[string]string{"main.js": "text/javascript; charset=utf-8", "style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"} {
		code, h, body := get(t, s, "/static/"+path)
		if code != 200 || h.Get("Content-Type") != kind || body == "" {
			t.Errorf("%s: %d %s, %d bytes", path, code, h.Get("Content-Type"), len(body))
		}
		r := httptest.NewRequest("GET", "http://localhost/static/"+path, nil)
		r.Header.Set("If-None-Match", h.Get("ETag"))
		w := httptest.NewRecorder()
		if s.Handler().ServeHTTP(w, r); w.Code != http.StatusNotModified {
			t.Errorf("%s again: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/static/", "/static/none.js", "/static/..%2fpage.html", "/static/../page.html", "/page.html", "/d/x/", "/d/"} {
		if code, _, _ := get(t, s, path); code == 200 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func TestHealth(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	f.child(0, os.Getpid(), 1)
	s := newServer(t, Daemon{"good", dir}, Daemon{"bad", t.TempDir()})
	if code, _, body := get(t, s, "/d/good/healthz"); code != 200 || body != "good: ok\n" {
		t.Errorf("%d %q", code, body)
	}
	code, _, body := get(t, s, "/healthz")
	if code != 503 || !strings.HasPrefix(body, "good: ok\nbad: Not running") {
		t.Errorf("%d %q", code, body)
	}
}

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	work(f.child(0, os.Getpid(), 1), 3, "a <job>")
	s := newServer(t, Daemon{"good", dir}, Daemon{"bad", t.TempDir()})
	_, h, body := get(t, s, "/status.json")
	var all map[string]struct {
		Running  bool
		Problem  string
		Daemon   struct{ PID int }
		Status   struct{ State string }
		Children []struct {
			State, Text string
			Job         int
		}
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil || h.Get("Content-Type") != "application/json" {
		t.Fatalf("%v, %s: %s", err, h.Get("Content-Type"), body)
	}
	good, bad := all["good"], all["bad"]
	if !good.Running || good.Daemon.PID != os.Getpid() || good.Status.State != "serving" || len(good.Children) != 1 ||
		good.Children[0].Text != "a <job>" || good.Children[0].State != "working" || good.Children[0].Job != 3 {
		t.Errorf("%+v", good)
	}
	if bad.Running || bad.Problem == "" {
		t.Errorf("%+v", bad)
	}
}

// However many ask, only a few look at boards at once, and who has gone while he waited is not looked for.
func TestStatusInTurn(t *testing.T) {
	dir := t.TempDir()
	newFake(t, dir, self(t))
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Daemon{"d", dir})
		h := s.Handler()
		ask := func(ctx context.Context) chan string {
			body := make(chan string, 1)
			go func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "http://localhost/status.json", nil))
				body <- w.Body.String()
			}()
			return body
		}
		for range maxLooks {
			s.looks <- struct{}{}
		}
		ctx, leave := context.WithCancel(t.Context())
		left, waits := ask(ctx), ask(t.Context())
		synctest.Wait()
		if len(left)+len(waits) != 0 {
			t.Fatal("more look than may")
		}
		leave()
		if body := <-left; body != "" {
			t.Errorf("who has gone is answered: %s", body)
		}
		<-s.looks
		if body := <-waits; !strings.Contains(body, `"running": true`) {
			t.Errorf("who has waited gets %q", body)
		}
		if len(s.looks) != maxLooks-1 {
			t.Errorf("%d of %d still look", len(s.looks), maxLooks-1)
		}
	})
}

// The server looks by itself, ends when it is told, and ends streams that are open.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	newFake(t, dir, self(t))
	s := newServer(t, Daemon{"d", dir})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, l, nil) }()
	p := openPage(t, "http://"+l.Addr().String()+"/stream")
	if m := p.next(); len(m.Daemons) != 1 || !m.Daemons[0].Full {
		t.Errorf("%+v", m)
	}
	begun := time.Now()
	stop()
	select {
	case err := <-ended:
		if err != nil || time.Since(begun) > stopTime {
			t.Errorf("it ended after %s: %v", time.Since(begun), err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if !p.end() {
		t.Error("the stream goes on")
	}
	if _, err := http.Get("http://" + l.Addr().String() + "/healthz"); err == nil {
		t.Error("the port is still open")
	}
}
