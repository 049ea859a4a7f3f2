package netmon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// host is a process that serves clients and does with their connections only what it
// is told, in words: "listen ADDR", "accept", "close N", "shut N", "write N" and
// "dial ADDR". Accepted and dialed connections are numbered from 0. Addresses are of
// TCP, or else begin with "/" or "@" and are names of Unix sockets.
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
		ln, err := lc.Listen(context.Background(), network(arg), arg)
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
		c, err := net.Dial(network(arg), arg)
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
	case "write":
		_, err := h.conns[n].Write([]byte("x"))
		return "written", err
	case "shut":
		return "shut", h.conns[n].(interface{ CloseWrite() error }).CloseWrite()
	}
	return "", fmt.Errorf("what is this? %s", command)
}

func network(addr string) string {
	if addr[0] == '/' || addr[0] == '@' {
		return "unix"
	}
	return "tcp"
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
