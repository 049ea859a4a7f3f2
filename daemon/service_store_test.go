package daemon_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freePort is a port that nobody has, and that nobody is given by the system.
func freePort(t *testing.T) int {
	for range 1000 {
		port := 20000 + rand.IntN(10000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// Those who wait in the queue of a listener, and those who connect while nobody is there, are answered by the next parent, when
// the manager has kept the listeners: whether this one is killed, or has been upgraded to a program that dies or fails.
func TestServiceStore(t *testing.T) {
	for name, end := range map[string]func(s *site){
		"killed": (*site).killParent,
		"dies":   func(s *site) { s.upgradeTo(frailDies) },
		"fails":  func(s *site) { s.upgradeTo(frailFails) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serviceStore(t, end)
		})
	}
}

func serviceStore(t *testing.T, end func(s *site)) {
	m := manage(t).listen()
	addresses := fmt.Sprintf("BROOD_LISTEN=127.0.0.1:%d unix:socket", freePort(t))
	old := start(t, frail, addresses, "NOTIFY_SOCKET="+m.socket)
	m.await("READY=1", 1)
	kept := m.store()
	if len(kept) != 2 {
		t.Fatalf("%d descriptors are stored", len(kept))
	}
	tcp, unix := old.addr("tcp4"), old.dir+"/socket"
	// Both children are busy.
	for i := range 2 {
		askWho(t, old.dial("tcp4"), fmt.Sprintf("gate job%d", i))
	}
	var waiting []net.Conn
	connect := func() {
		t.Helper()
		for i := range 10 {
			network, addr := "tcp", tcp
			if i%2 == 1 {
				network, addr = "unix", unix
			}
			conn, err := net.Dial(network, addr)
			if err != nil {
				t.Fatalf("a client is refused: %v", err)
			}
			t.Cleanup(func() { conn.Close() })
			conn.SetDeadline(time.Now().Add(patience))
			say(t, conn, "who")
			waiting = append(waiting, conn)
		}
	}
	connect()
	end(old)
	old.open("job0")
	old.open("job1")
	eventually(t, "the children to leave", func() bool { return len(old.processes()) == 0 })
	connect()

	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	old.mend()
	s := launchAs(t, frail, func(s *site) {
		hand(s, append(kept, stored{"stray", null}))
		s.cmd.Dir, s.dir = old.dir, old.dir
		s.cmd.Env = append(s.cmd.Env, siteVar+"="+old.dir, "BROOD_RUN_DIR="+old.path("run"))
		log, err := os.OpenFile(s.path("log"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { log.Close() })
		s.cmd.Stdout, s.cmd.Stderr = log, log
	}, addresses, "NOTIFY_SOCKET="+m.socket)
	s.served()
	for i, conn := range waiting {
		var pid, slot int
		text, err := io.ReadAll(conn)
		if _, serr := fmt.Sscan(string(text), &pid, &slot); err != nil || serr != nil {
			t.Errorf("client %d is answered %q, %v", i, text, err)
		}
	}
	if log := s.log(); !strings.Contains(log, "are not used and have been closed") || !strings.Contains(log, "5=stray") {
		t.Errorf("nothing is said of the stray descriptor:\n%s", log)
	}
	if n := len(m.notices("FDSTORE=1")); n != 2 {
		t.Errorf("%d descriptors have been sent: what is stored is stored again", n)
	}
	s.stop(syscall.SIGTERM)
	eventually(t, "the store to be emptied", func() bool { return len(m.store()) == 0 })
	if _, err := os.Lstat(unix); !os.IsNotExist(err) {
		t.Errorf("the path is left: %v", err)
	}
}

// A parent in the background is not the process that the service manager has started: it says nothing, and takes nothing.
func TestServiceDaemonized(t *testing.T) {
	t.Parallel()
	m := manage(t).listen()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := launchAs(t, lines, func(s *site) { hand(s, []stored{{"a", file}}) }, "BROOD_DAEMONIZE=true", "WATCHDOG_USEC=1000", "NOTIFY_SOCKET="+m.socket)
	if !s.over(patience) || !s.cmd.ProcessState.Success() {
		t.Fatalf("the launcher: %v", s.cmd.ProcessState)
	}
	b := s.board()
	if got := len(descriptors(t, b.PID, inodeOf(t, file))); got != 0 {
		t.Errorf("the parent has the descriptor %d times", got)
	}
	s.signal(syscall.SIGTERM, b.PID)
	eventually(t, "the daemon to stop", func() bool { return len(s.processes()) == 0 })
	if got := m.all(); len(got) > 0 {
		t.Errorf("the manager hears %+v", got)
	}
}

// inodeOf is the number of a socket.
func inodeOf(t *testing.T, file *os.File) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
