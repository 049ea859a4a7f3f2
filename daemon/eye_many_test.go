package daemon

import (
	"testing"
)

// Who asks about one client is told, however many others the kernel has to tell of at the same moment.
func TestSweepOfMany(t *testing.T) {
	c := &Child{cfg: Config{HalfClose: HalfCloseGone}}
	e, err := newEye(c)
	if err != nil {
		t.Fatal(err)
	}
	defer e.epoll.Close()
	c.eye = e
	var conns []*Conn
	for range 3*atOnce + 1 {
		s, client := socketPair(t)
		conn := &Conn{Conn: s, c: c, tcp: true}
		if err := e.watch(conn); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		client.Close()
	}
	for _, conn := range conns {
		for conn.poll() == 0 {
		}
	}
	e.sweep()
	for i, conn := range conns {
		if !conn.seen.Load() {
			t.Errorf("client %d has not been seen to leave", i)
		}
	}
}
