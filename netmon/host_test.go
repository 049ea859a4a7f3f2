package netmon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// roleVar makes the test binary a process that serves clients: its own child.
const roleVar = "NETMON_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) == "host" {
		serveCommands(os.Stdin, os.Stdout)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// host is a process that serves clients and does with their connections only what it
// is told, in words: "listen ADDR", "accept", "close N", "shut N", "dial ADDR". Accepted
// and dialed connections are numbered from 0.
type host interface {
	pid() int
	do(command string) string
}

// here is a host in this process.
type here struct {
	t        testing.TB
	listener net.Listener
	conns    []net.Conn
}

func (h *here) pid() int { return os.Getpid() }

func (h *here) do(command string) string {
	h.t.Helper()
	answer, err := h.try(command)
	if err != nil {
		h.t.Fatalf("%s: %v", command, err)
	}
	return answer
}

func (h *here) try(command string) (string, error) {
	verb, arg, _ := strings.Cut(command, " ")
	switch verb {
	case "listen":
		// MPTCP is the default for Go's listeners, and cannot be watched in the table.
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err := lc.Listen(context.Background(), "tcp", arg)
		if err != nil {
			return "", err
		}
		h.listener = ln
		return ln.Addr().String(), nil
	case "accept":
		c, err := h.listener.Accept()
		if err != nil {
			return "", err
		}
		h.conns = append(h.conns, c)
		return "accepted", nil
	case "dial":
		c, err := net.Dial("tcp", arg)
		if err != nil {
			return "", err
		}
		h.conns = append(h.conns, c)
		return c.LocalAddr().String(), nil
	}
	n, err := strconv.Atoi(arg)
	if err != nil || n >= len(h.conns) {
		return "", fmt.Errorf("what connection? %s", command)
	}
	switch verb {
	case "close":
		return "closed", h.conns[n].Close()
	case "shut":
		return "shut", h.conns[n].(*net.TCPConn).CloseWrite()
	}
	return "", fmt.Errorf("what is this? %s", command)
}

func (h *here) closeAll() {
	if h.listener != nil {
		h.listener.Close()
	}
	for _, c := range h.conns {
		c.Close()
	}
}

func serveCommands(in io.Reader, out io.Writer) {
	var h here
	for lines := bufio.NewScanner(in); lines.Scan(); {
		answer, err := h.try(lines.Text())
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Fprintln(out, answer)
	}
}

// child is a host in a process of its own.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func newChild(t testing.TB) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"=host")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &child{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) do(command string) string {
	c.t.Helper()
	fmt.Fprintln(c.in, command)
	answer, err := c.out.ReadString('\n')
	if err != nil || strings.HasPrefix(answer, "error: ") {
		c.t.Fatalf("%s: %s %v", command, answer, err)
	}
	return strings.TrimSpace(answer)
}

// scene is a host with a listener, a monitor, and clients in this process.
type scene struct {
	host
	t     testing.TB
	addr  string // for clients to dial
	ports []uint16
	m     *Monitor
	table *Table
	n     int // connections the host has
}

func newScene(t testing.TB, h host, listen, dial string) *scene {
	t.Helper()
	local := netip.MustParseAddrPort(h.do("listen " + listen))
	return &scene{
		host:  h,
		t:     t,
		addr:  net.JoinHostPort(dial, strconv.Itoa(int(local.Port()))),
		ports: []uint16{local.Port()},
		m:     NewMonitor(DefaultFS, nil),
		table: NewTable(DefaultFS),
	}
}

// connect makes one connection and has it accepted.
func (s *scene) connect() *net.TCPConn {
	s.t.Helper()
	c := s.dial(nil)
	s.do("accept")
	s.n++
	return c
}

// dial makes a connection that waits in the accept queue, if need be from a given address.
func (s *scene) dial(from net.Addr) *net.TCPConn {
	s.t.Helper()
	c, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// poll polls once.
func (s *scene) poll() []Lost {
	s.t.Helper()
	got, err := s.m.Poll(nil, s.ports, []int{s.pid()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.m.checkBooks(s.t)
	return got
}

// nothing polls a few times, and nobody may be reported.
func (s *scene) nothing() {
	s.t.Helper()
	for range 4 {
		if got := s.poll(); len(got) > 0 {
			s.t.Fatalf("reported: %+v", got)
		}
	}
}

// reported polls until as many clients are reported as are wanted, then a few times more
// for false alarms.
func (s *scene) reported(how How, clients ...net.Conn) []Lost {
	s.t.Helper()
	var got []Lost
	eventually(s.t, func() bool {
		got = append(got, s.poll()...)
		return len(got) >= len(clients)
	})
	s.nothing()
	var want, have []string
	for _, c := range clients {
		want = append(want, fmt.Sprintln(s.pid(), how, c.LocalAddr(), c.RemoteAddr()))
	}
	for _, l := range got {
		have = append(have, fmt.Sprintln(l.PID, l.How, l.Foreign, l.Local))
		if l.Inode == 0 {
			s.t.Error("no inode")
		}
	}
	sameLines(s.t, want, have)
	return got
}

// state returns the state of the host's end of c's connection; 0 if it has no row.
func (s *scene) state(c net.Conn) State {
	s.t.Helper()
	rows, err := s.table.Snapshot(nil, Filter{Ports: s.ports, States: watched | TimeWait.Mask()})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range rows {
		if r.Remote.String() == c.LocalAddr().String() {
			return r.State
		}
	}
	return 0
}

// becomes waits until the host's end of c's connection is in one of the states.
func (s *scene) becomes(c net.Conn, states ...State) {
	s.t.Helper()
	eventually(s.t, func() bool {
		now := s.state(c)
		for _, want := range states {
			if now == want {
				return true
			}
		}
		return false
	})
}

// reset closes a connection so that the other end receives RST.
func reset(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}
