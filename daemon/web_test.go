package daemon_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
)

// web is a daemon that serves HTTP.
var web = scenario("web", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		h := pages(c, func(r *http.Request) context.Context { return r.Context() })
		return serve.HTTP(&http.Server{Handler: h})(ctx, c)
	})
})

// raw is a daemon that serves HTTP without package serve, as a library would that accepts by itself.
var raw = scenario("raw", func() daemon.Config {
	return everywhere(func(ctx context.Context, c *daemon.Child) error {
		ls, err := c.Listeners()
		if errors.Is(err, daemon.ErrDraining) {
			return nil
		}
		if err != nil {
			return err
		}
		type connKey struct{}
		srv := &http.Server{
			Handler: pages(c, func(r *http.Request) context.Context {
				return r.Context().Value(connKey{}).(*daemon.Conn).Context()
			}),
			ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
				return context.WithValue(ctx, connKey{}, conn)
			},
		}
		for _, l := range ls {
			go srv.Serve(l)
		}
		<-ctx.Done()
		return nil
	})
})

// request writes a request by hand.
func request(t testing.TB, conn net.Conn, method, path, body string, headers ...string) {
	t.Helper()
	if body != "" {
		headers = append(headers, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	head := append([]string{method + " " + path + " HTTP/1.1", "Host: there"}, headers...)
	if _, err := io.WriteString(conn, strings.Join(head, "\r\n")+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
}

// A visit is a client's connection with what has been read ahead of it.
type visit struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (s *site) visit(network string) *visit {
	s.t.Helper()
	return newVisit(s.t, s.dial(network))
}

func newVisit(t testing.TB, conn net.Conn) *visit { return &visit{t, conn, bufio.NewReader(conn)} }

// get asks for a page and returns the whole answer.
func (v *visit) get(path string, headers ...string) (string, *http.Response) {
	v.t.Helper()
	request(v.t, v.Conn, "GET", path, "", headers...)
	return v.answer()
}

func (v *visit) answer() (string, *http.Response) {
	v.t.Helper()
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return string(body), resp
}

// who asks for the process that answers.
func (v *visit) who(headers ...string) int {
	v.t.Helper()
	var pid, slot int
	body, _ := v.get("/who", headers...)
	if _, err := fmt.Sscan(body, &pid, &slot); err != nil {
		v.t.Fatalf("answered %q", body)
	}
	return pid
}

// Net/http notices that a client leaves, too, whatever the policy: a request's context ends, and so does what handlers waited for before
// there was one.
func TestWebNotices(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []string{"1", "4"} {
		s := start(t, web, "BROOD_CONCURRENCY="+concurrency, "POLICY=ignore")
		for _, network := range networks() {
			for _, page := range []string{"/hold", "/notify"} {
				for _, reset := range []bool{false, true} {
					id := fmt.Sprint(network, page[1:], reset, concurrency)
					v := s.visit(network)
					if concurrency != "1" {
						v.who() // it is not the connection's first
					}
					request(t, v, "GET", page+"?id="+id, "")
					s.event("begin", id)
					if tcp, ok := v.Conn.(*net.TCPConn); ok && reset {
						tcp.SetLinger(0)
					}
					v.Close()
					s.event("end", id)
				}
			}
		}
	}
}

// Who takes a connection over reads from it as he likes, byte by byte too.
func TestWebByte(t *testing.T) {
	t.Parallel()
	s := start(t, web, "BROOD_CONCURRENCY=4")
	for _, network := range networks() {
		v := s.visit(network)
		request(t, v, "POST", "/byte", "body")
		for _, want := range []string{"go on\n", "\"x\", <nil>\n"} {
			if got, err := v.r.ReadString('\n'); got != want {
				t.Errorf("%s: %q, %v; want %q", network, got, err, want)
			}
			io.WriteString(v, "x")
		}
	}
}
