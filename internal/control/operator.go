package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The verbs an operator can send; the list is closed.
const (
	VerbStop    = "stop"    // drain and stop; the answer comes when stopping has begun
	VerbReload  = "reload"  // the answer comes when the new generation serves, or when it is given up
	VerbUpgrade = "upgrade" // replace the parent's own program; the new one answers
	VerbReopen  = "reopen"  // reopen the log files
	VerbScale   = "scale"   // move the number of children; the answer comes when they serve
)

// A Request is one line of JSON from an operator.
type Request struct {
	Verb  string `json:"verb"`
	Quick bool   `json:"quick,omitempty"` // of stop: cancel the jobs that run
	Begin bool   `json:"begin,omitempty"` // of reload and upgrade: the answer comes when it has begun
	N     int    `json:"n,omitempty"`     // of scale: the number of children
	Delta bool   `json:"delta,omitempty"` // of scale: N is to be added
}

// A Reply is one line of JSON to an operator.
type Reply struct {
	OK    bool   `json:"ok"`
	Text  string `json:"text,omitempty"`  // what was done
	Error string `json:"error,omitempty"` // what went wrong
}

const maxRequest = 64 << 10

// RequestTime is how long an operator may take for his request.
const RequestTime = 5 * time.Second

// maxSocketPath is the longest path that fits into a sockaddr_un, unix(7).
const maxSocketPath = 107

// address returns a path by which the socket in dir can be bound or reached however long dir is, and a function to
// call when that is done.
func address(dir string) (string, func(), error) {
	path := filepath.Join(dir, SocketName)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + SocketName, func() { d.Close() }, nil
}

// Listen binds the operators' socket in a run directory, in the place of one that a dead daemon left. The caller holds
// the lock on the directory. The directory's mode is the guard; the socket's own is 0600 besides.
func Listen(dir string) (*net.UnixListener, error) {
	path, done, err := address(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer done()
	if err := os.Remove(filepath.Join(dir, SocketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(filepath.Join(dir, SocketName), 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// Adopt takes over the operators' socket that this very process had open before it replaced itself with exec(2).
func Adopt(fd int) (*net.UnixListener, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "control socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("control socket: descriptor %d is something else", fd)
	}
	u.SetUnlinkOnClose(false)
	return u, nil
}

// A Peer is who is at the other end of an operator's connection, as the kernel tells.
type Peer struct{ PID, UID int }

// PeerOf asks the kernel (SO_PEERCRED, unix(7)).
func PeerOf(c *net.UnixConn) (Peer, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := rc.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, err
	}
	if cerr != nil {
		return Peer{}, os.NewSyscallError("getsockopt", cerr)
	}
	return Peer{PID: int(cred.Pid), UID: int(cred.Uid)}, nil
}

// Receive reads one request. It takes at most five seconds and 64 KiB, and refuses everybody but root and this
// process's own user.
func Receive(c *net.UnixConn) (Request, Peer, error) {
	p, err := PeerOf(c)
	if err != nil {
		return Request{}, p, err
	}
	if p.UID != 0 && p.UID != os.Geteuid() {
		return Request{}, p, fmt.Errorf("user %d may not steer this daemon", p.UID)
	}
	c.SetReadDeadline(time.Now().Add(RequestTime))
	line, err := bufio.NewReaderSize(c, maxRequest).ReadSlice('\n')
	if err != nil {
		return Request{}, p, fmt.Errorf("reading a request: %w", err)
	}
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return Request{}, p, fmt.Errorf("reading a request: %w", err)
	}
	switch r.Verb {
	case VerbStop, VerbReload, VerbUpgrade, VerbReopen, VerbScale:
		return r, p, nil
	}
	return r, p, fmt.Errorf("unknown verb %q", r.Verb)
}

// Answer sends the reply. Its texts are cut at 4,096 bytes, so that the line is one that Call takes even if JSON has to
// escape every byte of them.
func Answer(c *net.UnixConn, r Reply) error {
	r.Text, r.Error = cut(r.Text), cut(r.Error)
	c.SetWriteDeadline(time.Now().Add(RequestTime))
	return json.NewEncoder(c).Encode(r)
}

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

// Call sends one request and waits for its answer until ctx ends.
func (c *Client) Call(ctx context.Context, r Request) (Reply, error) {
	stop := context.AfterFunc(ctx, func() { c.c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var reply Reply
	err := json.NewEncoder(c.c).Encode(r)
	// A daemon that refuses this user does so without reading; what it said is still to be had.
	if err == nil || errors.Is(err, unix.EPIPE) {
		err = json.NewDecoder(io.LimitReader(c.c, maxRequest)).Decode(&reply)
	}
	switch {
	case err == nil:
		return reply, nil
	case ctx.Err() != nil:
		return Reply{}, ctx.Err()
	}
	return Reply{}, fmt.Errorf("the daemon gave no answer: %w", err)
}
