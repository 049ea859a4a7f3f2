package daemon_test

import (
	"io"
	"strings"
	"testing"
)

// B58: a connection whose job has been cancelled because its time was over answers nothing else: who is still there must
// not take one answer for another.
func TestNoAnswerAfterTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, web, "BROOD_JOB_TIMEOUT=200ms", "BROOD_LINGER_TIMEOUT=100ms", "BROOD_CONCURRENCY=4", "BROOD_PREFORK=2", listen("tcp4"))
	for range 5 {
		conn := s.dial("tcp4")
		// The second request is there before the first is answered.
		if _, err := io.WriteString(conn, "GET /hold?id=x HTTP/1.1\r\nHost: there\r\n\r\nGET /who HTTP/1.1\r\nHost: there\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		all, _ := io.ReadAll(conn) // also if it is reset
		// No answer is fine, or the late one of the job that was told to end; and only behind that the other one's own.
		_, rest, _ := strings.Cut(string(all), "HTTP/1.1 200 OK\r\n")
		first, second, two := strings.Cut(rest, "HTTP/1.1 200 OK\r\n")
		if len(all) > 0 && !strings.HasSuffix(first, "\r\n\r\nbye\n") || two && strings.Contains(second, "bye") {
			t.Errorf("the client reads %q", all)
		}
	}
	eventually(t, "five new children", func() bool { return s.board().Born >= 7 })
	for range 10 {
		if err := short(&client{addr: s.addr("tcp4")}); err != nil {
			t.Error(err)
		}
	}
}
