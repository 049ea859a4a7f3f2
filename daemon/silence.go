package daemon

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// defaultClientTimeout makes the probes of Go's own connections (net/dial.go), 15 s apart, but fewer of them.
	defaultClientTimeout = 75 * time.Second
	// leastClientTimeout has room for the probes: the kernel counts in seconds.
	leastClientTimeout = probes + 1
	// probes is how many go unanswered until a client is given up. The first one is sent after as long a silence as lies
	// between two of them.
	probes = 4
)

// inheritable sets what accepted connections inherit from their listener, whoever accepts: a host that is switched off
// sends no farewell, so the kernel asks it for a sign of life.
func inheritable(fd int, network string, timeout time.Duration) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	type option struct{ level, name, value int }
	options := []option{{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}}
	if timeout < 0 {
		options = append(options, option{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0}, option{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0})
	} else {
		every := int(timeout / (probes + 1) / time.Second)
		options = append(options,
			option{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			option{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, every},
			option{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, every},
			option{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, probes},
			option{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds())})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// inherited sees to it that an accepted connection has inherited that: a service manager's listener may have had clients in its
// queue before it was set, and this program may want something else than the parent, which has set it. TCP_USER_TIMEOUT is what is set last.
func inherited(fd int, timeout time.Duration) error {
	if timeout > 0 {
		got, err := optionNow(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		if err == nil && got == int(timeout.Milliseconds()) {
			return nil
		}
	}
	return inheritable(fd, "tcp", timeout)
}

// silent reports whether nothing has been heard from a TCP client for so long that the kernel has given it up. Else the
// connection was reset.
func silent(info *unix.TCPInfo, timeout time.Duration) bool {
	return timeout > 0 && time.Duration(info.Last_ack_recv)*time.Millisecond >= timeout*probes/(probes+1)
}
