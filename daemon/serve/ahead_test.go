package serve

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An unread is a connection on which a byte that is read ahead is never there, without an error, as daemon.Conn.SetReadAhead has it.
type unread struct {
	net.Conn
	ahead *atomic.Int32 // such reads
}

func (u unread) Read(p []byte) (int, error) {
	if len(p) == 1 {
		u.ahead.Add(1)
		return 0, nil
	}
	return u.Conn.Read(p)
}

// What daemon.Conn.SetReadAhead relies on: net/http reads ahead by a read of one byte, one for each request, and is content with nothing.
func TestReadsAheadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			if err := r.Context().Err(); err != nil {
				t.Errorf("its context has ended: %v", err)
			}
			hello(w, r)
		})})
		var ahead atomic.Int32
		client, server := net.Pipe()
		defer client.Close()
		s.conns <- unread{server, &ahead}
		r := bufio.NewReader(client)
		for n := range int32(3) {
			get(t, client, r)
			if got := ahead.Load(); got != n+1 {
				t.Errorf("%d reads ahead after %d requests", got, n+1)
			}
		}
		// Two at once: the second is there when the first has been answered.
		if _, err := io.WriteString(client, "GET /page HTTP/1.1\r\nHost: there\r\n\r\nGET /page HTTP/1.1\r\nHost: there\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer(t, r)
		answer(t, r)
	})
}
