package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A stage is a server whose network and clock are not real. Its connections are nobody's jobs, so what is tested is how
// a server drains.
type stage struct {
	t     *testing.T
	h     *httpLoop
	conns chan net.Conn
	close sync.Once
}

const linger = 5 * time.Second

func newStage(t *testing.T, srv *http.Server) *stage {
	h := &httpLoop{srv: srv, linger: linger, changed: make(chan struct{}, 1)}
	empty(&h.open)
	h.wrap()
	s := &stage{t: t, h: h, conns: make(chan net.Conn)}
	go srv.Serve(s)
	t.Cleanup(func() { srv.Close() })
	return s
}

func empty[M ~map[K]V, K comparable, V any](m *M) { *m = M{} }

// Accept, Close and Addr make the stage a net.Listener.
func (s *stage) Accept() (net.Conn, error) {
	if conn, ok := <-s.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (s *stage) Close() error {
	s.close.Do(func() { close(s.conns) })
	return nil
}

func (s *stage) Addr() net.Addr { return &net.UnixAddr{Name: "stage", Net: "unix"} }

// dial returns a client's end of a new connection, with what the server says on it.
func (s *stage) dial() (net.Conn, *bufio.Reader) {
	client, server := net.Pipe()
	s.conns <- server
	synctest.Wait()
	s.t.Cleanup(func() { client.Close() })
	return client, bufio.NewReader(client)
}

// drain begins to drain and returns a channel that tells how long it took.
func (s *stage) drain() <-chan time.Duration {
	s.Close()
	took := make(chan time.Duration, 1)
	begun := time.Now()
	go func() {
		s.h.drain()
		took <- time.Since(begun)
	}()
	synctest.Wait()
	return took
}

// get asks for a page and reads the answer.
func get(t *testing.T, conn net.Conn, r *bufio.Reader) *http.Response {
	t.Helper()
	if _, err := io.WriteString(conn, "GET /page HTTP/1.1\r\nHost: there\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return answer(t, r)
}

func answer(t *testing.T, r *bufio.Reader) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
		t.Fatalf("got %q, %v", body, err)
	}
	return resp
}

func hello(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, "hello")
}

// Nobody is there, so nobody is waited for.
func TestDrainNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, &http.Server{Handler: http.HandlerFunc(hello)})
		conn, r := s.dial()
		get(t, conn, r)
		conn.Close()
		if took := <-s.drain(); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// B25: idle connections are kept for the linger time, and not longer: one that has asked before, one that never has.
func TestDrainIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, &http.Server{Handler: http.HandlerFunc(hello)})
		asked, r := s.dial()
		get(t, asked, r)
		silent, _ := s.dial()
		took := s.drain()
		up := time.Now().Add(linger)
		for _, conn := range []net.Conn{asked, silent} {
			conn.SetReadDeadline(up.Add(-1))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("before the time is up: %v", err)
			}
		}
		for _, conn := range []net.Conn{asked, silent} {
			conn.SetReadDeadline(time.Time{})
			if _, err := conn.Read(make([]byte, 1)); err != io.EOF || time.Now().Before(up) {
				t.Errorf("when it is up: %v", err)
			}
		}
		if d := <-took; d != linger {
			t.Errorf("it took %v", d)
		}
	})
}

// A drain ends when the last connection is closed, not when the linger time is up.
func TestDrainEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, &http.Server{Handler: http.HandlerFunc(hello)})
		conn, _ := s.dial()
		took := s.drain()
		time.Sleep(time.Second)
		conn.Close()
		if d := <-took; d != time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// B23: a request that comes while the server drains is answered, and its client is told to go.
func TestDrainAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, &http.Server{Handler: http.HandlerFunc(hello)})
		kept, r := s.dial()
		if resp := get(t, kept, r); resp.Close {
			t.Error("told to go before the drain")
		}
		head, hr := s.dial()
		io.WriteString(head, "GET /page HTTP/1.1\r\nHo")
		body, br := s.dial()
		io.WriteString(body, "POST /page HTTP/1.1\r\nHost: there\r\nContent-Length: 4\r\n\r\nbo")
		silent, sr := s.dial()
		took := s.drain()
		time.Sleep(time.Second)
		if resp := get(t, kept, r); !resp.Close {
			t.Error("a kept connection is kept on")
		}
		if resp := get(t, silent, sr); !resp.Close {
			t.Error("a new connection is kept")
		}
		io.WriteString(head, "st: there\r\n\r\n")
		if resp := answer(t, hr); !resp.Close {
			t.Error("a slow client is kept")
		}
		// Whose request runs is not idle. That one was begun before the drain.
		time.Sleep(2 * linger)
		io.WriteString(body, "dy")
		answer(t, br)
		body.Close()
		if d := <-took; d != 2*linger+time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// A request that runs is waited for, however long it takes.
func TestDrainBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			hello(w, r)
		})})
		conn, r := s.dial()
		go io.WriteString(conn, "GET /page HTTP/1.1\r\nHost: there\r\n\r\n")
		synctest.Wait()
		took := s.drain()
		answer(t, r)
		if d := <-took; d < time.Minute || d > time.Minute+linger {
			t.Errorf("it took %v", d)
		}
	})
}

// A connection that a handler has taken over is not the server's any more.
func TestDrainHijacked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		defer close(done)
		s := newStage(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				<-done
				conn.Close()
			}()
		})})
		conn, _ := s.dial()
		io.WriteString(conn, "GET /page HTTP/1.1\r\nHost: there\r\n\r\n")
		synctest.Wait()
		if took := <-s.drain(); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// What the user's server has of its own is kept: its hooks are called, and no handler means http.DefaultServeMux.
func TestServerKeepsItsOwn(t *testing.T) {
	type key struct{}
	defer func(mux *http.ServeMux) { http.DefaultServeMux = mux }(http.DefaultServeMux)
	http.DefaultServeMux = http.NewServeMux()
	http.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(key{}) != "mine" {
			t.Error("the context is not the user's")
		}
		hello(w, r)
	})
	synctest.Test(t, func(t *testing.T) {
		var states []string
		s := newStage(t, &http.Server{
			ConnState: func(_ net.Conn, st http.ConnState) { states = append(states, fmt.Sprint(st)) },
			ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
				return context.WithValue(ctx, key{}, "mine")
			},
		})
		conn, r := s.dial()
		get(t, conn, r)
		synctest.Wait()
		conn.Close()
		synctest.Wait()
		if want := []string{"new", "active", "idle", "closed"}; !slices.Equal(states, want) {
			t.Errorf("its connection is %q, want %q", states, want)
		}
	})
}
