package daemon

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// A result is what a Read has returned.
type result struct {
	n   int
	err error
}

// reads has somebody read one byte, and waits until he does where the byte is read ahead.
func reads(t *testing.T, conn *Conn) <-chan result {
	t.Helper()
	done := make(chan result, 1)
	go func() {
		n, err := conn.Read(make([]byte, 1))
		done <- result{n, err}
	}()
	eventually(t, "the byte to be waited for", func() bool { return conn.ahead.waits.Load() != nil })
	return done
}

// watchedConn returns a connection on which a job runs, whose server reads ahead.
func watchedConn(t *testing.T) (*Conn, *net.TCPConn) {
	t.Helper()
	conn, client, _ := connOnBoard(t)
	if err := conn.c.eye.watch(conn); err != nil {
		t.Fatal(err)
	}
	conn.watched = true
	conn.SetReadAhead(true)
	conn.Begin(t.Context(), "job")
	return conn, client
}

// Who reads ahead while a job runs hears of whatever he reads ahead for, and of nothing else; and of the end of the job first.
func TestReadAhead(t *testing.T) {
	for name, c := range map[string]struct {
		then func(*Conn, *net.TCPConn)
		want result
	}{
		"the job ends":         {func(conn *Conn, _ *net.TCPConn) { conn.Idle() }, result{0, nil}},
		"the client leaves":    {func(conn *Conn, client *net.TCPConn) { client.Close(); awaitEye(conn) }, result{0, io.EOF}},
		"a deadline":           {func(conn *Conn, _ *net.TCPConn) { conn.SetReadDeadline(time.Unix(1, 0)) }, result{0, os.ErrDeadlineExceeded}},
		"a deadline for both":  {func(conn *Conn, _ *net.TCPConn) { conn.SetDeadline(time.Unix(1, 0)) }, result{0, os.ErrDeadlineExceeded}},
		"it is closed":         {func(conn *Conn, _ *net.TCPConn) { conn.kind.onClose = false; conn.Close() }, result{0, net.ErrClosed}},
		"it is taken over":     {func(conn *Conn, client *net.TCPConn) { client.Write([]byte("x")); conn.SetReadAhead(false) }, result{1, nil}},
		"he asks for more":     {func(conn *Conn, client *net.TCPConn) { client.Write([]byte("x")); awaitBytes(conn); conn.Idle() }, result{0, nil}},
		"more, then he leaves": {func(conn *Conn, client *net.TCPConn) { client.Write([]byte("x")); client.Close(); awaitEye(conn) }, result{1, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, client := watchedConn(t)
			done := reads(t, conn)
			c.then(conn, client)
			select {
			case got := <-done:
				if got.n != c.want.n || !errors.Is(got.err, c.want.err) {
					t.Errorf("%d, %v; want %d, %v", got.n, got.err, c.want.n, c.want.err)
				}
			case <-time.After(20 * time.Second):
				t.Error("it is still waited for")
			}
			if name != "he asks for more" {
				return
			}
			if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Errorf("what he has asked for: %d, %v", n, err)
			}
		})
	}
}

// awaitEye waits until the eye has seen something of the connection.
func awaitEye(conn *Conn) {
	for !conn.seen.Load() {
		conn.c.eye.sweep()
	}
}

// awaitBytes waits until there is something to read.
func awaitBytes(conn *Conn) {
	conn.control(func(fd int) error { return eventuallyAccepts(fd) })
}

// A byte that nobody reads ahead is there at once.
func TestReadAheadNot(t *testing.T) {
	for name, before := range map[string]func(*Conn){
		"off":          func(conn *Conn) { conn.SetReadAhead(false) },
		"not watched":  func(conn *Conn) { conn.watched = false; conn.SetReadAhead(true); conn.Begin(t.Context(), "again") },
		"no job began": func(conn *Conn) { conn.SetReadAhead(true) },
		// It may be for the next job, which has not begun: nobody has read ahead in the first.
		"the job is over":    func(conn *Conn) { conn.Idle() },
		"a deadline to come": func(conn *Conn) { conn.Idle(); conn.SetReadDeadline(time.Now().Add(time.Hour)) },
		"had a glimpse":      func(conn *Conn) { conn.seen.Store(true) },
		"a deadline":         func(conn *Conn) { conn.SetReadDeadline(time.Now().Add(time.Hour)) },
		"the second": func(conn *Conn) {
			done := reads(t, conn)
			conn.rouse()
			if r := <-done; r.n != 1 || r.err != nil {
				t.Errorf("the first: %d, %v", r.n, r.err)
			}
		},
	} {
		conn, client := watchedConn(t)
		client.Write([]byte("xx"))
		before(conn)
		if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	conn, client := watchedConn(t)
	client.Write([]byte("xx"))
	awaitBytes(conn)
	if n, err := conn.Read(make([]byte, 2)); n != 2 || err != nil {
		t.Errorf("two bytes: %d, %v", n, err)
	}
	conn.Idle()
	conn.SetReadDeadline(time.Unix(1, 0))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("read ahead for a job that is over, and taken back: %d, %v", n, err)
	}
}
