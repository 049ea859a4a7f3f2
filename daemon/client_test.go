package daemon_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A client does one thing again and again until it is told to stop; nothing may go wrong, not even once.
type client struct {
	name string
	addr string
	once func(c *client) error
	conn net.Conn // kept from one time to the next, if any
	r    *bufio.Reader
	done atomic.Int64
	err  error
}

func (c *client) dial() error {
	conn, err := net.DialTimeout("tcp4", c.addr, patience)
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(patience))
	c.conn, c.r = conn, bufio.NewReader(conn)
	return nil
}

func (c *client) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// answer reads an answer to the end. It hangs up if the server says that this was the last one.
func (c *client) answer() error {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var pid, slot int
	if _, err := fmt.Sscan(string(body), &pid, &slot); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %q", resp.Status, body)
	}
	if resp.Close {
		c.hangUp()
	}
	return nil
}

// moment is a random time up to a limit.
func moment(limit time.Duration) { time.Sleep(rand.N(limit)) }

// short makes a connection for each request.
func short(c *client) error {
	if err := c.dial(); err != nil {
		return err
	}
	defer c.hangUp()
	io.WriteString(c.conn, "GET /who HTTP/1.1\r\nHost: there\r\nConnection: close\r\n\r\n")
	return c.answer()
}

// kept uses one connection as long as it can.
func kept(think time.Duration) func(c *client) error {
	return func(c *client) error {
		if c.conn == nil {
			if err := c.dial(); err != nil {
				return err
			}
		}
		c.conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(c.conn, "POST /who HTTP/1.1\r\nHost: there\r\nContent-Length: 4\r\n\r\nbody")
		err := c.answer()
		if think > 0 {
			moment(think)
		}
		return err
	}
}

// half sends its head and its body in pieces.
func half(c *client) error {
	if err := c.dial(); err != nil {
		return err
	}
	defer c.hangUp()
	for _, piece := range []string{"POST /who HT", "TP/1.1\r\nHost: there\r\nContent-", "Length: 10\r\n\r\nhello", "world"} {
		if _, err := io.WriteString(c.conn, piece); err != nil {
			return err
		}
		moment(60 * time.Millisecond)
	}
	return c.answer()
}

// late connects and then has to think.
func late(c *client) error {
	if err := c.dial(); err != nil {
		return err
	}
	defer c.hangUp()
	moment(600 * time.Millisecond)
	io.WriteString(c.conn, "GET /who HTTP/1.1\r\nHost: there\r\n\r\n")
	return c.answer()
}

// plain speaks no HTTP.
func plain(c *client) error {
	if err := c.dial(); err != nil {
		return err
	}
	defer c.hangUp()
	io.WriteString(c.conn, "hello\n")
	answer, err := io.ReadAll(c.conn)
	if err == nil && string(answer) != "hello true\n" {
		err = fmt.Errorf("answered %q", answer)
	}
	return err
}

// rush lets clients do what they do, with short pauses, until stop is called, which returns how often each kind was served.
func rush(t *testing.T, pause time.Duration, clients []*client) (stop func() map[string]int64) {
	stopped := make(chan struct{})
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			defer c.hangUp()
			for c.err == nil {
				select {
				case <-stopped:
					return
				default:
				}
				moment(pause)
				if c.err = c.once(c); c.err == nil {
					c.done.Add(1)
				}
			}
		})
	}
	return func() map[string]int64 {
		close(stopped)
		all.Wait()
		served := map[string]int64{}
		for _, c := range clients {
			if c.err != nil {
				t.Errorf("%s, after %d times: %v", c.name, c.done.Load(), c.err)
			}
			served[c.name] += c.done.Load()
		}
		return served
	}
}
