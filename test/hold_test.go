package test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// One process may not have as many descriptors as four children together. So connections in thousands are held by clients
// that are processes, too: this test program, executed again with holdVar in its environment.
const (
	holdVar   = "BROOD_TEST_HOLD"       // HOST:PORT to connect to
	holdFrom  = "BROOD_TEST_HOLD_FROM"  // the address to connect from: each has ports of its own
	holdCount = "BROOD_TEST_HOLD_COUNT" // connections
	// holdTime ends a client process whatever happens.
	holdTime = 2 * time.Minute
)

// A holder is such a process.
type holder struct {
	cmd    *exec.Cmd
	say    io.WriteCloser
	hear   *bufio.Reader
	said   strings.Builder // its standard error
	answer map[string]int  // how many connections were answered by whom
}

// hold starts a client process that opens n connections from an address, and does not wait for it.
func (s *site) hold(addr, from string, n int) (*holder, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	h := &holder{cmd: s.command(self), answer: map[string]int{}}
	h.cmd.Env = append(h.cmd.Env, holdVar+"="+addr, holdFrom+"="+from, fmt.Sprint(holdCount, "=", n))
	h.cmd.Stderr = &h.said
	// Not even a test that is killed leaves it behind.
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if h.say, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.hear = bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() {
		h.cmd.Process.Kill()
		h.cmd.Wait()
	})
	return h, nil
}

// held waits until every connection is answered.
func (h *holder) held() error {
	for {
		line, err := h.hear.ReadString('\n')
		if err != nil {
			h.cmd.Wait()
			return fmt.Errorf("a client process has ended: %v: %s", err, h.said.String())
		}
		if line == "held\n" {
			return nil
		}
		var who string
		var n int
		if _, err := fmt.Sscan(line, &who, &n); err != nil {
			return fmt.Errorf("client process: %q: %w", line, err)
		}
		h.answer[who] += n
	}
}

// leave has the process close one of its connections.
func (h *holder) leave() error {
	_, err := io.WriteString(h.say, "leave\n")
	return err
}

// again has the process ask on every connection once more, and waits until all are answered by whom they were before.
func (h *holder) again() error {
	if _, err := io.WriteString(h.say, "again\n"); err != nil {
		return err
	}
	return h.held()
}

// holdMain is a client process. Its standard input says what to do; it ends with that.
func holdMain(addr string) int {
	time.AfterFunc(holdTime, func() {
		fmt.Fprintln(os.Stderr, "nobody has ended this client")
		os.Exit(1)
	})
	if err := holdConnections(addr, os.Getenv(holdFrom), os.Getenv(holdCount)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func holdConnections(addr, from, count string) error {
	var n int
	if _, err := fmt.Sscan(count, &n); err != nil {
		return fmt.Errorf("%s=%q: %w", holdCount, count, err)
	}
	conns, who := make([]net.Conn, n), make([]string, n)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: requestTime, KeepAlive: -1, Control: pickLate}
	err := each(n, func(i int) (err error) {
		if conns[i], err = dialer.Dial("tcp", addr); err == nil {
			who[i], err = asks(conns[i])
		}
		return err
	})
	if err != nil {
		return err
	}
	counts := map[string]int{}
	for _, w := range who {
		counts[w]++
	}
	for w, n := range counts {
		fmt.Println(w, n)
	}
	fmt.Println("held")
	for said := bufio.NewScanner(os.Stdin); said.Scan(); {
		switch last := len(conns) - 1; said.Text() {
		case "leave":
			conns[last].Close()
			conns = conns[:last]
		case "again":
			err := each(len(conns), func(i int) error {
				w, err := asks(conns[i])
				if err == nil && w != who[i] {
					err = fmt.Errorf("%s answers, and it was %s", w, who[i])
				}
				return err
			})
			if err != nil {
				return err
			}
			fmt.Println("held")
		}
	}
	return nil
}

// pickLate has the kernel pick a port when it knows the other end, too. Else a port is of no use for the minute that its last
// connection is remembered (TIME_WAIT), and a second run within that minute looks for ports for most of a minute.
func pickLate(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt", err)
}

// each calls f for 0 to n-1, some at the same time, and returns the first error.
func each(n int, f func(i int) error) error {
	const clients = 64
	errs := make(chan error, clients)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := c; i < n; i += clients {
				if err := f(i); err != nil {
					errs <- fmt.Errorf("connection %d of %d: %w", i, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// asks sends a line and returns which process and slot answer. They must know both ends of the connection.
func asks(c net.Conn) (who string, err error) {
	c.SetDeadline(time.Now().Add(requestTime))
	if _, err := io.WriteString(c, "who\n"); err != nil {
		return "", err
	}
	return answers(c)
}

// answers reads the answer to a line that was sent.
func answers(c net.Conn) (who string, err error) {
	c.SetDeadline(time.Now().Add(requestTime))
	answer := make([]byte, 0, 128)
	for len(answer) == 0 || answer[len(answer)-1] != '\n' {
		if len(answer) == cap(answer) {
			return "", fmt.Errorf("answer %q is too long", answer)
		}
		n, err := c.Read(answer[len(answer):cap(answer)])
		if err != nil {
			return "", fmt.Errorf("after %q: %w", answer, err)
		}
		answer = answer[:len(answer)+n]
	}
	var pid, slot int
	var local, foreign string
	if _, err := fmt.Sscanf(string(answer), "pid=%d slot=%d local=%s foreign=%s\n", &pid, &slot, &local, &foreign); err != nil {
		return "", fmt.Errorf("answer %q: %w", answer, err)
	}
	if local != c.RemoteAddr().String() || foreign != c.LocalAddr().String() {
		return "", errors.New("the answer is another connection's: " + string(answer))
	}
	return fmt.Sprintf("%d/%d", pid, slot), nil
}
