// Package notify tells a service manager how a daemon is, in the way of sd_notify(3): one datagram of assignments to the
// Unix socket that the environment variable NOTIFY_SOCKET names.
//
// It reads no environment: who has taken the variable out of it says here what it was.
package notify

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

const (
	// Ready says that the daemon is up, or that it has reloaded.
	Ready = "READY=1"
	// Stopping says that the daemon has begun to stop.
	Stopping = "STOPPING=1"
	// Watchdog is a sign of life.
	Watchdog = "WATCHDOG=1"

	// maxPath is what fits into a socket's address, with the zero behind it.
	maxPath = 107
	// maxName is how long the name of a stored descriptor may be (sd_notify(3)).
	maxName = 255
	// maxStatus is how much of a status line is sent: a message of more than 4096 bytes is not read.
	maxStatus = 1024
)

// A Notifier sends to one service manager. The nil Notifier and the zero one belong to a daemon without any: they do
// nothing. It holds no descriptor, and any goroutine may use it.
type Notifier struct{ socket string }

// New returns the notifier for a value of NOTIFY_SOCKET: an absolute path, or "@" and the name of an abstract socket. An empty
// value makes the nil Notifier. The error says why a value cannot be used; nothing is looked at yet.
func New(socket string) (*Notifier, error) {
	switch {
	case socket == "":
		return nil, nil
	case socket[0] != '/' && socket[0] != '@' || len(socket) == 1:
		return nil, fmt.Errorf("notify socket %q: want an absolute path, or @ and a name (other kinds of sockets, such as vsock, are not supported)", socket)
	case len(socket) > maxPath:
		return nil, fmt.Errorf("notify socket %q: longer than %d bytes", socket, maxPath)
	}
	return &Notifier{socket}, nil
}

// Send sends assignments such as Ready in one datagram.
//
// It does not wait: if the manager is behind, the error is one for which Later is true, and nothing has been sent. An
// assignment that is none, or of more than one line, is an error; it could say anything in the name of the daemon.
func (n *Notifier) Send(assignments ...string) error { return n.send(nil, assignments) }

// SendFDs gives descriptors to the manager's store, which keeps them as long as the service is restarted; they come back by
// LISTEN_FDS under this name. Up to 255 characters of ASCII, without control characters and colons, are a name. The manager
// gets duplicates. It does not drop those whose other end has hung up.
func (n *Notifier) SendFDs(name string, fds ...int) error {
	if err := checkName(name); err != nil {
		return err
	}
	return n.send(unix.UnixRights(fds...), []string{"FDSTORE=1", "FDNAME=" + name, "FDPOLL=0"})
}

// Forget makes the manager close what it has stored under a name.
func (n *Notifier) Forget(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return n.send(nil, []string{"FDSTOREREMOVE=1", "FDNAME=" + name})
}

func (n *Notifier) send(rights []byte, assignments []string) error {
	if n == nil || n.socket == "" {
		return nil
	}
	for _, a := range assignments {
		if i := strings.IndexByte(a, '='); i < 1 || strings.ContainsAny(a, "\n\x00") {
			return fmt.Errorf("notify socket %s: %q is not one assignment", n.socket, a)
		}
	}
	// A new one each time: a manager that has made its socket anew is found again.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("notify socket %s: %w", n.socket, os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	text := []byte(strings.Join(assignments, "\n"))
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Sendmsg(fd, text, rights, &unix.SockaddrUnix{Name: n.socket}, unix.MSG_NOSIGNAL)
	}
	if err != nil {
		return fmt.Errorf("notify socket %s: %w", n.socket, os.NewSyscallError("sendmsg", err))
	}
	return nil
}

// Later reports whether an error of Send passes by itself: the manager, or the system, has no room at the moment.
func Later(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) ||
		errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

// Reloading returns the assignments that say that the daemon has begun to reload at a certain time. By the time the manager
// knows whether it is the reload that it has asked for. began must come from time.Now.
func Reloading(began time.Time) []string {
	// In this order: whatever comes between the two looks makes the time later. An earlier one could be one before the
	// manager's signal, and it would wait for another reload for ever.
	since := time.Since(began)
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		now = unix.Timespec{} // not possible
	}
	return []string{"RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", (now.Nano()-since.Nanoseconds())/1000)}
}

// Status returns the assignment of a line for people. What is not printable becomes a question mark, and what is too long
// is cut.
func Status(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + " …"
	}
	return "STATUS=" + text
}

func checkName(name string) error {
	bad := func(r rune) bool { return r < ' ' || r > '~' || r == ':' }
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("name %q of a descriptor: want 1 to %d printable characters of ASCII other than a colon", name, maxName)
	}
	return nil
}
