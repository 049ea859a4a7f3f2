package daemon_test

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A socket that the manager has bound, for a socket unit, is the daemon's listener: it is served, not stored, and still there when the
// daemon has stopped. One that is for another address is closed and named.
func TestServiceSocketUnit(t *testing.T) {
	t.Parallel()
	m := manage(t).listen()
	mine, other := socketUnit(t), socketUnit(t)
	s := launchAs(t, lines, func(s *site) {
		hand(s, []stored{{"lines.socket", fileOf(t, mine)}, {"other.socket", fileOf(t, other)}})
	}, "BROOD_LISTEN="+mine.Addr().String(), "NOTIFY_SOCKET="+m.socket)
	m.await("READY=1", 1)
	conn, err := net.Dial("tcp", mine.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	askWho(t, conn, "who")
	if n := len(m.notices("FDSTORE=1")); n != 0 {
		t.Errorf("%d descriptors have been stored", n)
	}
	if log := s.log(); !strings.Contains(log, "are not used and have been closed") || !strings.Contains(log, "4=other.socket") || strings.Contains(log, "lines.socket") {
		t.Errorf("what is said of the descriptors:\n%s", log)
	}
	s.stop(syscall.SIGTERM)
	m.await("STATUS=stopped", 1)
	late, err := net.Dial("tcp", mine.Addr().String())
	if err != nil {
		t.Errorf("the manager's socket is closed: %v", err)
	} else {
		late.Close()
	}
}

// socketUnit binds a socket as a manager does for a socket unit.
func socketUnit(t *testing.T) *net.TCPListener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

func fileOf(t *testing.T, ln *net.TCPListener) *os.File {
	t.Helper()
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
