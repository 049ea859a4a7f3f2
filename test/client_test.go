package test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// requestTime is how long may take what is waited for: a connection, room for a request, an answer.
const requestTime = 30 * time.Second

// dial connects to host:port or to the path of a Unix socket.
func dial(addr string) (net.Conn, error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := net.DialTimeout(network, addr, requestTime)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(requestTime))
}

// A visit is one client's connection. It speaks HTTP by itself, because net/http's client quietly tries again when a
// kept connection fails, and these failures are what is looked for.
type visit struct {
	conn net.Conn
	r    *bufio.Reader
	last bool // the server has said that it takes no further request here
}

func visitTo(addr string) (*visit, error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	return &visit{conn: c, r: bufio.NewReader(c)}, nil
}

// accepted returns an error as long as one of these connections lies in its listener's queue. The kernel shows no inode for its other end
// until somebody has accepted it. They are of IPv4.
func accepted(visits []*visit) error {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return failure{err}
	}
	waiting := 0
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if f[3] != "01" || f[9] != "0" { // TCP_ESTABLISHED
			continue
		}
		for _, v := range visits {
			if f[1] == tableAddr(v.conn.RemoteAddr()) && f[2] == tableAddr(v.conn.LocalAddr()) {
				waiting++
			}
		}
	}
	if waiting > 0 {
		return fmt.Errorf("%d of %d connections have not been accepted", waiting, len(visits))
	}
	return nil
}

// tableAddr is an address as the kernel's table writes it.
func tableAddr(addr net.Addr) string {
	a := addr.(*net.TCPAddr)
	ip := a.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], a.Port)
}

// split parts host:port/path, or /socket:/path, into where and what to ask.
func split(url string) (addr, path string) {
	if strings.HasPrefix(url, "/") {
		addr, path, _ = strings.Cut(url, ":")
		return addr, path
	}
	addr, path, _ = strings.Cut(url, "/")
	return addr, "/" + path
}

// ask connects and sends a request.
func ask(url string) (*visit, error) {
	addr, path := split(url)
	v, err := visitTo(addr)
	if err != nil {
		return nil, err
	}
	if err := v.send(path); err != nil {
		v.conn.Close()
		return nil, err
	}
	return v, nil
}

func (v *visit) send(path string) error {
	v.conn.SetDeadline(time.Now().Add(requestTime))
	_, err := fmt.Fprintf(v.conn, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", escape(path))
	return err
}

// escape makes what a script writes fit for a request: whatever is not part of a plain URL is encoded.
func escape(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/?&=.-_:", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// answer reads one answer to its end. Its time begins here: there may have been a long build since it was asked for.
func (v *visit) answer() (string, error) {
	v.conn.SetDeadline(time.Now().Add(requestTime))
	res, err := http.ReadResponse(v.r, nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fmt.Errorf("in the middle of the answer: %w", err)
	}
	v.last = res.Close
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", res.Status, body)
	}
	return string(body), nil
}

// leave hangs up: fin in good order, rst as a process that is killed with data unread, or a firewall, would.
func (v *visit) leave(how string) error {
	switch how {
	case "fin":
	case "rst":
		if err := v.conn.(*net.TCPConn).SetLinger(0); err != nil {
			return err
		}
	default:
		return errors.New("leave how? fin or rst")
	}
	return v.conn.Close()
}

// get asks once, on a connection of its own, which this side closes as soon as it has the answer.
func get(url string) (string, error) {
	v, err := ask(url)
	if err != nil {
		return "", err
	}
	defer v.conn.Close()
	return v.answer()
}
