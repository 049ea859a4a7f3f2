package serve

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a handler can do with net/http's own writer it can do when answers are counted, and what is counted is what the client gets.
func TestTally(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		status int
		bytes  int64
	}{
		"nothing": {func(w http.ResponseWriter) {}, 0, 0},
		"text":    {func(w http.ResponseWriter) { io.WriteString(w, "hello") }, 200, 5},
		"error":   {func(w http.ResponseWriter) { http.Error(w, "no", http.StatusServiceUnavailable) }, 503, 3},
		"hints": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
		}, 418, 0},
		"copied":  {func(w http.ResponseWriter) { io.Copy(w, strings.NewReader("copied")) }, 200, 6},
		"flushed": {func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, 200, 0},
		"controlled": {func(w http.ResponseWriter) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
		}, 200, 0},
		"left": {func(w http.ResponseWriter) { w.(interface{ CloseNotify() <-chan bool }).CloseNotify() }, 0, 0},
	} {
		var count *tally
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w, count = counted(w, r.ProtoMajor, nil)
			c.answer(w)
		}))
		resp, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		srv.Close()
		if err != nil || count.status != c.status || count.bytes != c.bytes || int64(len(body)) != c.bytes {
			t.Errorf("%s: counted %d and %d bytes, want %d and %d; the client got %q, %v", name, count.status, count.bytes, c.status, c.bytes, body, err)
		}
	}
}

// A writer of HTTP/1 can be hijacked, one of HTTP/2 cannot, and does not say so.
func TestTallyKinds(t *testing.T) {
	w, _ := counted(httptest.NewRecorder(), 1, nil)
	if _, ok := w.(http.Hijacker); !ok {
		t.Error("HTTP/1 cannot be hijacked")
	}
	w, _ = counted(httptest.NewRecorder(), 2, nil)
	if _, ok := w.(http.Hijacker); ok {
		t.Error("HTTP/2 could be hijacked")
	}
	if _, ok := w.(http.Pusher); !ok {
		t.Error("HTTP/2 cannot push")
	}
}
