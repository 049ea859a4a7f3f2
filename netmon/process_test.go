package netmon

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Many at once, each once.
func TestManyClients(t *testing.T) {
	inChild(t, func(t *testing.T, s *scene) {
		var close, cut, all []net.Conn
		for i := range 200 {
			c := s.connect()
			all = append(all, c)
			switch i % 3 {
			case 0:
				close = append(close, c)
			case 1:
				cut = append(cut, c)
			}
		}
		s.nothing()
		for _, c := range close {
			c.Close()
		}
		s.reported(Closed, close...)
		for _, c := range cut {
			reset(t, c.(*net.TCPConn))
		}
		s.reported(Reset, cut...)
		if n := len(s.m.entries); n != len(all) {
			t.Errorf("%d remembered, the child holds %d", n, len(all))
		}
	})
}

// A process that cannot help, being stopped or another program, is watched all the same.
func TestProcessThatNeverLooks(t *testing.T) {
	h := &here{t: t}
	t.Cleanup(h.closeAll)
	s := newScene(t, h, ":0", "127.0.0.1", nil)
	a, b := s.connect(), s.connect()
	cmd := exec.Command("sleep", "600")
	for _, c := range h.conns {
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	h.do("close 0")
	h.do("close 1")
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	s.host = &child{t: t, cmd: cmd}
	s.nothing()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	a.Close()
	s.reported(Closed, a)
	reset(t, b)
	s.reported(Reset, b)
}

// A child that dies loses no clients: its connections are closed from our side.
func TestChildDies(t *testing.T) {
	inChild(t, func(t *testing.T, s *scene) {
		a, b := s.connect(), s.connect()
		s.nothing()
		cmd := s.host.(*child).cmd
		cmd.Process.Kill()
		for _, c := range []net.Conn{a, b} {
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Fatal(err)
			}
		}
		s.nothing() // a zombie
		a.Close()
		s.nothing()
		cmd.Wait()
		s.nothing() // no process at all
		if n := len(s.m.entries); n != 0 {
			t.Errorf("%d connections remembered for ever", n)
		}
	})
}

// A client whose host is gone says nothing. Keep-alive finds out, and it looks like a
// reset. A filter that drops all packets makes such a client without a network.
func TestClientVanishes(t *testing.T) { // B46
	if testing.Short() {
		t.Skip("takes two seconds")
	}
	h := &here{t: t}
	t.Cleanup(h.closeAll)
	s := newScene(t, h, "127.0.0.1:0", "127.0.0.1", newDiag(t))
	c := s.connect()
	server := h.conns[0].(*net.TCPConn)
	if err := server.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1}); err != nil {
		t.Fatal(err)
	}
	s.nothing()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	})
	if err != nil {
		t.Fatal(err)
	}
	s.reported(Reset, c)
}

// A parent without privilege sees its own children just as well, dead ones included.
func TestUnprivileged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("all the tests are unprivileged")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^(TestClientCloses|TestClientResets|TestChildDies|TestForbiddenProcess)$")
	cmd.Env = append(os.Environ(), roleVar+"=nested")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// A process of which the descriptors may not be seen is an error that says so.
func TestForbiddenProcess(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("nothing is forbidden to root")
	}
	inChild(t, func(t *testing.T, s *scene) {
		c := s.connect()
		c.Close()
		s.becomes(c, CloseWait)
		if _, err := s.m.Poll(nil, s.ports, []int{1}); !errors.Is(err, os.ErrPermission) {
			t.Errorf("error %v", err)
		}
		s.reported(Closed, c)
	})
}

// What Poll does to a busy real table must not cost memory either. // B44
func TestRealPollAllocatesNothing(t *testing.T) {
	inChild(t, func(t *testing.T, s *scene) {
		for range 20 {
			s.connect()
		}
		s.nothing()
		pids := []int{s.pid(), os.Getpid()}
		var out []Lost
		poll := func() {
			var err error
			if out, err = s.m.Poll(out[:0], s.ports, pids); err != nil || len(out) > 0 {
				t.Fatal(out, err)
			}
		}
		poll()
		if n := testing.AllocsPerRun(50, poll); n != 0 {
			t.Errorf("%v allocations a poll", n)
		}
	})
}
