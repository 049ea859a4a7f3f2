package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A Client is an operator's connection to a daemon.
type Client struct {
	c    *net.UnixConn
	Peer Peer // the parent
}

// Dial connects to the daemon with this run directory.
func Dial(dir string) (*Client, error) {
	path, done, err := address(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	p, err := PeerOf(c)
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Client{c: c, Peer: p}, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.c.Close() }

// Ask connects to the daemon with this run directory, sends one request and waits for the answer until ctx ends; see Call.
func Ask(ctx context.Context, dir string, r Request, progress func(text string)) (Reply, error) {
	c, err := Dial(dir)
	if err != nil {
		return Reply{}, err
	}
	defer c.Close()
	return c.Call(ctx, r, progress)
}

// Call sends one request and waits for its answer until ctx ends. On the way it calls progress with what the daemon tells of
// how far it has come, on this goroutine; nil: nobody wants to know. Who shows the texts escapes them.
func (c *Client) Call(ctx context.Context, r Request, progress func(text string)) (Reply, error) {
	stop := context.AfterFunc(ctx, func() { c.c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var reply Reply
	err := json.NewEncoder(c.c).Encode(r)
	// A daemon that refuses this user does so without reading; what it said is still to be had.
	if err == nil || errors.Is(err, unix.EPIPE) {
		reply, err = c.answer(progress)
	}
	switch {
	case err == nil:
		return reply, nil
	case ctx.Err() != nil:
		return Reply{}, ctx.Err()
	}
	return Reply{}, fmt.Errorf("the daemon gave no answer: %w", err)
}

// answer reads lines until one is the reply.
func (c *Client) answer(progress func(string)) (Reply, error) {
	for r := bufio.NewReader(c.c); ; {
		line, err := readLine(r)
		if err != nil {
			return Reply{}, err
		}
		var l struct {
			Progress *string `json:"progress"`
			Reply
		}
		if err := json.Unmarshal(line, &l); err != nil {
			return Reply{}, err
		}
		if l.Progress == nil {
			return l.Reply, nil
		}
		if progress != nil {
			progress(*l.Progress)
		}
	}
}

// errLong is why a line is not read to its end.
var errLong = errors.New("a line of it is too long")

// readLine reads to the end of a line that is not longer than any that Answer sends.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxData+maxRequest:
			return nil, errLong
		}
	}
}
