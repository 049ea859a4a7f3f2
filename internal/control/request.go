package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The verbs an operator can send; the list is closed. Those that wait for something tell how far it has come, see Progress.
const (
	VerbStatus   = "status"    // what every child is doing, as JSON
	VerbReload   = "reload"    // the answer comes when the new generation serves, or when it is given up
	VerbUpgrade  = "upgrade"   // replace the parent's own program; the new one answers
	VerbScale    = "scale"     // move the number of children; the answer comes when they serve
	VerbStop     = "stop"      // drain and stop; the answer comes when every child is gone
	VerbReopen   = "reopen"    // reopen the log files
	VerbDrain    = "drain"     // a child, or all of them, finish and leave; the answer comes when they are gone
	VerbEvents   = "events"    // what the parent has decided, done and seen, as JSON
	VerbLogLevel = "log-level" // set the level of the log, or ask for it; the answer is the level
)

// Verbs are all of them.
var Verbs = []string{VerbStatus, VerbReload, VerbUpgrade, VerbScale, VerbStop, VerbReopen, VerbDrain, VerbEvents, VerbLogLevel}

// Levels are the words for the level of a log, the most talkative first.
var Levels = []string{"debug", "info", "warn", "error"}

// A Request is one line of JSON from an operator.
type Request struct {
	Verb  string `json:"verb"`
	Quick bool   `json:"quick,omitempty"` // of stop: cancel the jobs that run
	Begin bool   `json:"begin,omitempty"` // of reload, upgrade, drain and stop: the answer comes when it has begun
	N     int    `json:"n,omitempty"`     // of scale: the number of children; of events: how many, the last ones, 0: all there are
	Delta bool   `json:"delta,omitempty"` // of scale: N is to be added
	PID   int    `json:"pid,omitempty"`   // of drain: the process id of the child, 0: all of them
	Level string `json:"level,omitempty"` // of log-level: one of Levels; empty: it stays
}

// A Reply is the last line of JSON to an operator.
type Reply struct {
	OK    bool            `json:"ok"`
	Text  string          `json:"text,omitempty"`  // what was done
	Error string          `json:"error,omitempty"` // what went wrong
	Data  json.RawMessage `json:"data,omitempty"`  // what was asked for
}

// A Progress is a line of JSON to an operator that comes before the Reply: how far it is with what he has asked for.
type Progress struct {
	Progress string `json:"progress"`
}

const (
	// maxRequest is the size of a request, and of a line to an operator beside its data.
	maxRequest = 64 << 10
	// maxData is the size of a Reply's data.
	maxData = 32 << 20
)

// RequestTime is how long an operator may take for his request, and to take what he is told.
const RequestTime = 5 * time.Second

// Await waits until Receive has nothing to wait for: a request has come in, or what can become none. It takes nothing out of the
// socket. The error says that there is no request within five seconds, or that c has been closed.
func Await(c *net.UnixConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(RequestTime))
	line := make([]byte, maxRequest)
	err = rc.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, _ := unix.Poll(poll, 0); n > 0 { // there will be no more of it
			return true
		}
		n, _, err := unix.Recvfrom(int(fd), line, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != nil {
			return err != unix.EAGAIN
		}
		return n == len(line) || bytes.IndexByte(line[:n], '\n') >= 0
	})
	if err != nil {
		return fmt.Errorf("waiting for a request: %w", err)
	}
	return nil
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
	r, err := parseRequest(line)
	return r, p, err
}

// parseRequest takes a request only if it is one that can be dealt with.
func parseRequest(line []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return Request{}, fmt.Errorf("reading a request: %w", err)
	}
	switch {
	case !slices.Contains(Verbs, r.Verb):
		return r, fmt.Errorf("unknown verb %q", r.Verb)
	case r.Level != "" && !slices.Contains(Levels, r.Level):
		return r, fmt.Errorf("unknown level %q: want %s", r.Level, strings.Join(Levels, ", "))
	case r.PID < 0:
		return r, fmt.Errorf("%d is no process id", r.PID)
	case r.Verb == VerbEvents && r.N < 0:
		return r, fmt.Errorf("%d is no number of events", r.N)
	}
	return r, nil
}

// Answer sends the reply. Its texts are cut at 4,096 bytes, so that the line is one that Call takes even if JSON has to
// escape every byte of them.
func Answer(c *net.UnixConn, r Reply) error {
	r.Text, r.Error = cut(r.Text), cut(r.Error)
	if len(r.Data) > maxData {
		r = Reply{Error: fmt.Sprintf("the answer has %d bytes, at most %d are sent", len(r.Data), maxData)}
	}
	return send(c, r)
}

// Tell sends a line of progress, cut as those of Answer are.
func Tell(c *net.UnixConn, text string) error { return send(c, Progress{cut(text)}) }

func send(c *net.UnixConn, line any) error {
	c.SetWriteDeadline(time.Now().Add(RequestTime))
	return json.NewEncoder(c).Encode(line)
}
