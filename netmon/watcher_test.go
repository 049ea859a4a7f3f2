package netmon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lent is a process that holds the server's ends of connections, and does nothing with them: it is stopped.
type lent struct {
	pid, pidfd int
	clients    []net.Conn
	inodes     []uint64
}

// firstLent is the descriptor of the first of them.
const firstLent = 3

func lend(t testing.TB, network string, n int) *lent {
	t.Helper()
	ln, err := net.Listen(network, map[string]string{"tcp": "127.0.0.1:0", "unix": t.TempDir() + "/s"}[network])
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := &lent{pidfd: -1}
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &l.pidfd, Pdeathsig: syscall.SIGKILL}
	for range n {
		c, err := net.Dial(network, ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.(interface{ File() (*os.File, error) }).File()
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		l.clients, l.inodes = append(l.clients, c), append(l.inodes, st.Ino)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.pid = cmd.Process.Pid
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		unix.Close(l.pidfd)
	})
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	return l
}

// listening returns a Watcher, and what it tells.
func listening(t testing.TB) (*Watcher, <-chan uint64) {
	t.Helper()
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	told, over := make(chan uint64, 1000), make(chan error, 1)
	go func() {
		var inodes []uint64
		for {
			var err error
			if inodes, err = w.Wait(inodes[:0]); err != nil {
				over <- err
				return
			}
			for _, ino := range inodes {
				told <- ino
			}
		}
	}()
	t.Cleanup(func() {
		w.Close()
		if err := <-over; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Wait after Close: %v", err)
		}
	})
	return w, told
}

// hear waits until all of these have been told of, once or more.
func hear(t testing.TB, told <-chan uint64, want ...uint64) {
	t.Helper()
	missing := map[uint64]bool{}
	for _, ino := range want {
		missing[ino] = true
	}
	late := time.After(10 * time.Second)
	for len(missing) > 0 {
		select {
		case ino := <-told:
			if !slices.Contains(want, ino) {
				t.Fatalf("told of %d, want %v", ino, want)
			}
			delete(missing, ino)
		case <-late:
			t.Fatalf("not told of %v", slices.Sorted(maps.Keys(missing)))
		}
	}
}

// Whatever way a client leaves, and whether before or after it is watched, it is told, of a process that cannot help.
func TestWatcher(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			const n = 200
			l := lend(t, network, n)
			w, told := listening(t)
			l.clients[0].Close()
			for i, ino := range l.inodes {
				if err := w.Add(l.pidfd, firstLent+i, ino); err != nil {
					t.Fatal(err)
				}
			}
			hear(t, told, l.inodes[0])
			for i, c := range l.clients[1:] {
				switch c := c.(type) {
				case *net.TCPConn:
					if i%3 == 0 {
						c.CloseWrite()
						continue
					}
					c.SetLinger(i%3 - 2) // 0: a reset
				}
				c.Close()
			}
			hear(t, told, l.inodes[1:]...)
		})
	}
}

// To watch a socket is not to hold it: its owner's close is the end of it, and no news.
func TestWatcherHoldsNothing(t *testing.T) {
	ln, self := ownSockets(t)
	w, told := listening(t)
	before := openDescriptors(t)
	for range 10 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		fd, inode := descriptorOf(t, s)
		if err := w.Add(self, fd, inode); err != nil {
			t.Fatal(err)
		}
		s.Close()
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the client reads %v", err)
		}
		c.Close()
		if err := w.Add(self, fd, inode); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a descriptor that is another's by now: %v", err)
		}
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
	if len(told) != 0 {
		t.Errorf("told of %d of its own ends", len(told))
	}
}

func openDescriptors(t *testing.T) int {
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(es)
}

func descriptorOf(t testing.TB, c net.Conn) (fd int, inode uint64) {
	t.Helper()
	rc, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := rc.Control(func(n uintptr) {
		fd = int(n)
		unix.Fstat(fd, &st)
	}); err != nil {
		t.Fatal(err)
	}
	return fd, st.Ino
}

// poll takes one look.
func (l *lent) poll(t *testing.T, m *Monitor, ports []uint16) []Lost {
	t.Helper()
	lost, err := m.Poll(nil, ports, []int{l.pid})
	if err != nil {
		t.Fatal(err)
	}
	return lost
}

// A Monitor with a Watcher is told when to look, and finds each client once; without one it finds the same.
func TestMonitorWatches(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			const n = 20
			l := lend(t, network, n)
			w, told := listening(t)
			src, _ := Open(DefaultFS)
			defer src.Close()
			m := NewMonitor(DefaultFS, src)
			m.WatchWith(w)
			var ports []uint16
			if addr, ok := l.clients[0].RemoteAddr().(*net.TCPAddr); ok {
				ports = append(ports, uint16(addr.Port))
			} else {
				unixSrc := NewUnix()
				defer unixSrc.Close()
				m.WatchUnix(unixSrc, l.clients[0].RemoteAddr().String())
			}
			if lost := l.poll(t, m, ports); len(lost) > 0 {
				t.Fatalf("lost at the begin: %v", lost)
			}
			before := openDescriptors(t)
			for i, c := range l.clients {
				c.Close()
				hear(t, told, l.inodes[i])
				lost := l.poll(t, m, ports)
				if len(lost) != 1 || lost[0].Inode != l.inodes[i] || lost[0].PID != l.pid {
					t.Fatalf("client %d: lost %v", i, lost)
				}
			}
			if err := m.Unwatched(); err != nil {
				t.Error(err)
			}
			if after := openDescriptors(t); after != before-n { // the clients
				t.Errorf("%d descriptors are open, %d were", after, before)
			}
		})
	}
}

// Where nothing can be borrowed the Monitor says so, and finds what it finds without.
func TestMonitorCannotWatch(t *testing.T) {
	if os.Getenv(roleVar) != "no pidfd_getfd" {
		without(t, "no pidfd_getfd")
		return
	}
	l := lend(t, "tcp", 2)
	w, told := listening(t)
	m := NewMonitor(DefaultFS, nil)
	m.WatchWith(w)
	ports := []uint16{uint16(l.clients[0].RemoteAddr().(*net.TCPAddr).Port)}
	if lost := l.poll(t, m, ports); len(lost) > 0 {
		t.Fatalf("lost at the begin: %v", lost)
	}
	if err := m.Unwatched(); !errors.Is(err, unix.EPERM) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("unwatched because of: %v", err)
	}
	reset(t, l.clients[0].(*net.TCPConn))
	l.clients[1].Close()
	if lost := l.poll(t, m, ports); len(lost) != 2 {
		t.Errorf("lost %v", lost)
	}
	if len(told) > 0 {
		t.Error("told of what is not watched")
	}
}

// What cannot be watched is told apart: gone, or not allowed.
func TestWatcherRefused(t *testing.T) {
	if s := os.Getenv("NETMON_BORROW"); s != "" { // as another user, below
		var pid, fd int
		var inode uint64
		fmt.Sscan(s, &pid, &fd, &inode)
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		w, _ := listening(t)
		if err := w.Add(pidfd, fd, inode); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a process of another user: %v", err)
		}
		return
	}
	l := lend(t, "tcp", 1)
	w, told := listening(t)
	if err := w.Add(l.pidfd, 0, l.inodes[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a descriptor that is no socket: %v", err)
	}
	if err := w.Add(l.pidfd, 99, l.inodes[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a descriptor that is not open: %v", err)
	}
	if err := w.Add(l.pidfd, firstLent, l.inodes[0]+1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another socket: %v", err)
	}
	syscall.Kill(l.pid, syscall.SIGKILL)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(l.pidfd), Events: unix.POLLIN}}, 10_000); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(l.pidfd, firstLent, l.inodes[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that has ended: %v", err)
	}
	l.clients[0].Close()
	if len(told) != 0 {
		t.Error("told of what is not watched")
	}
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	l = lend(t, "tcp", 1)
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/test" // where anybody may execute it
	for _, err := range []error{os.WriteFile(path, exe, 0o755), chmodAll(path)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, "-test.run=^TestWatcherRefused$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), roleVar+"=nested", "NETMON_BORROW="+strings.Join([]string{
		strconv.Itoa(l.pid), strconv.Itoa(firstLent), strconv.FormatUint(l.inodes[0], 10),
	}, " "))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

// chmodAll lets everybody through to a file in a test's own directory.
func chmodAll(path string) error {
	for dir := path; strings.HasPrefix(dir, os.TempDir()+"/"); dir = dir[:strings.LastIndexByte(dir, '/')] {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}
