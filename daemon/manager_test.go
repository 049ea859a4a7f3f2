package daemon_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A manager plays the service manager of a daemon: it has the socket, and keeps what it is told.
type manager struct {
	t      *testing.T
	socket string
	conn   *net.UnixConn

	mu    sync.Mutex
	heard []notice
	fds   []stored
}

// A notice is a message of a daemon.
type notice struct {
	text string
	at   time.Duration // of the monotonic clock
	pid  int           // who has sent it, by the kernel's word
}

// A stored is a descriptor in the manager's store.
type stored struct {
	name string
	file *os.File
}

func clock() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// manage makes a manager; it hears nothing before it listens.
func manage(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "m")
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, socket: dir + "/notify"}
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	rc, err := m.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.conn.Close()
		os.RemoveAll(dir)
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, s := range m.fds {
			s.file.Close()
		}
	})
	return m
}

// listen keeps what comes from now on.
func (m *manager) listen() *manager {
	go func() {
		text, oob := make([]byte, 8192), make([]byte, 4096)
		for {
			n, rights, _, _, err := m.conn.ReadMsgUnix(text, oob)
			if err != nil {
				return
			}
			m.hear(string(text[:n]), oob[:rights])
		}
	}()
	return m
}

func (m *manager) hear(text string, oob []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	note := notice{text: text, at: clock()}
	words := strings.Split(text, "\n")
	var name string
	for _, w := range words {
		if v, ok := strings.CutPrefix(w, "FDNAME="); ok {
			name = v
		}
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		m.t.Error(err)
	}
	for _, msg := range messages {
		if cred, err := unix.ParseUnixCredentials(&msg); err == nil {
			note.pid = int(cred.Pid)
			continue
		}
		fds, err := unix.ParseUnixRights(&msg)
		if err != nil {
			m.t.Error(err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			m.fds = append(m.fds, stored{name, os.NewFile(uintptr(fd), name)})
		}
	}
	if slices.Contains(words, "FDSTOREREMOVE=1") {
		m.fds = slices.DeleteFunc(m.fds, func(s stored) bool {
			if s.name == name {
				s.file.Close()
			}
			return s.name == name
		})
	}
	m.heard = append(m.heard, note)
}

// notices returns the messages in which there is this assignment, or one that begins with it if it ends in "=".
func (m *manager) notices(word string) []notice {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.heard), func(n notice) bool {
		return !slices.ContainsFunc(strings.Split(n.text, "\n"), func(w string) bool {
			return w == word || strings.HasSuffix(word, "=") && strings.HasPrefix(w, word)
		})
	})
}

// all returns every message.
func (m *manager) all() []notice {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.heard)
}

// await waits for the n-th message with this assignment.
func (m *manager) await(word string, n int) notice {
	m.t.Helper()
	var all []notice
	eventually(m.t, fmt.Sprintf("%s, %d times", word, n), func() bool {
		all = m.notices(word)
		return len(all) >= n
	})
	return all[n-1]
}

// caughtUp waits until everything has been heard that was said before.
func (m *manager) caughtUp() {
	m.t.Helper()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	n := len(m.notices("CAUGHTUP=1"))
	if _, err := conn.Write([]byte("CAUGHTUP=1")); err != nil {
		m.t.Fatal(err)
	}
	m.await("CAUGHTUP=1", n+1)
}

// began is the time in microseconds at which a reload is said to have begun.
func (m *manager) began(n notice) int64 {
	m.t.Helper()
	_, usec, _ := strings.Cut(n.text, "MONOTONIC_USEC=")
	usec, _, _ = strings.Cut(usec, "\n")
	at, err := strconv.ParseInt(usec, 10, 64)
	if err != nil {
		m.t.Errorf("%q: %v", n.text, err)
	}
	return at
}

// status waits for a status line that holds a text.
func (m *manager) status(text string) {
	m.t.Helper()
	eventually(m.t, "the status "+text, func() bool {
		return slices.ContainsFunc(m.notices("STATUS="), func(n notice) bool { return strings.Contains(n.text, text) })
	})
}

// order is how the messages on the daemon's state have come.
func (m *manager) order() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var words []string
	for _, n := range m.heard {
		for _, w := range []string{"READY=1", "RELOADING=1", "STOPPING=1"} {
			if slices.Contains(strings.Split(n.text, "\n"), w) {
				words = append(words, strings.TrimSuffix(w, "=1"))
			}
		}
	}
	return strings.Join(words, " ")
}

// store returns what is kept at the moment.
func (m *manager) store() []stored {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.fds)
}

// hand makes a site's daemon start with these descriptors, as a service manager does: the process that becomes the daemon
// finds its own number beside them.
func hand(s *site, all []stored) {
	names := make([]string, len(all))
	for i, st := range all {
		names[i] = st.name
		s.cmd.ExtraFiles = append(s.cmd.ExtraFiles, st.file)
	}
	s.cmd.Env = append(s.cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(all)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	s.cmd.Args = []string{"/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, s.cmd.Path}
	s.cmd.Path = "/bin/sh"
}
