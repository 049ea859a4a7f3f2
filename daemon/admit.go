package daemon

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/rules"
)

// accessRules are Allow and Deny as children obey them.
func (cfg *Config) accessRules() (rules.Set, error) {
	var parsed [2][]rules.Rule
	for i, field := range []struct {
		name  string
		texts []string
	}{{"Allow", cfg.Allow}, {"Deny", cfg.Deny}} {
		for _, text := range field.texts {
			r, err := rules.Parse(text)
			if err != nil {
				return rules.Set{}, fmt.Errorf("field %s: %w", field.name, err)
			}
			parsed[i] = append(parsed[i], r)
		}
	}
	return rules.New(parsed[0], parsed[1]), nil
}

// admits reports whether the access rules let somebody connect; who is refused is counted, and told to the parent. It may take
// as long as lookUpTime, if there are rules with names of hosts.
func (c *Child) admits(who rules.Peer) bool {
	rule := c.rules.Refuses(who, func() ([]string, error) {
		if names, err, ok := c.hosts.known(who.Addr); ok {
			return names, err
		}
		c.look(1)
		defer c.look(-1)
		return c.hosts.names(who.Addr)
	})
	if rule == "" {
		return true
	}
	c.board.Refuse()
	c.tellRefused(who.String(), rule)
	return false
}

// look counts those for whom names are looked up. Meanwhile the child has taken somebody, and is not idle: if nobody else is, the
// pool has to grow.
func (c *Child) look(n int) {
	c.mu.Lock()
	c.looking += n
	if c.jobs.n == 0 {
		c.show()
	}
	ring := n > 0 && c.board.Attention()
	c.mu.Unlock()
	if ring {
		c.ring()
	}
}

// client tells who has connected, as the rules see him.
func (acc accepted) client() rules.Peer {
	if acc.from.tcp {
		return rules.Peer{Addr: acc.peer.Addr()}
	}
	cred, err := unix.GetsockoptUcred(acc.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return rules.Peer{Unix: new(rules.Process)}
	}
	more, err := peerGroups(acc.fd)
	return rules.Peer{Unix: &rules.Process{Known: err == nil, UID: cred.Uid, Groups: append(more, cred.Gid)}}
}

// mostGroups is NGROUPS_MAX of Linux.
const mostGroups = 1 << 16

// peerGroups returns the further groups of the process at the other end of a Unix socket.
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups)) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == unix.ERANGE && len(groups) < mostGroups:
			groups = make([]uint32, mostGroups)
		default:
			return nil, os.NewSyscallError("getsockopt", errno)
		}
	}
}

// refuse closes the connection of somebody who may not connect. On TCP it is reset: a FIN would look like an empty answer, and
// leave a socket in TIME_WAIT here for each of many.
func (acc accepted) refuse() {
	if acc.from.tcp {
		closeByReset(acc.fd)
	}
	unix.Close(acc.fd)
}

// closeByReset makes closing a TCP connection reset it.
func closeByReset(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

const (
	// tellRefusedEvery is the least time between two refusals that a child tells its parent of.
	tellRefusedEvery = time.Second
	// refusedAtOnce is how many refusals the log gets at once; refusedRate is how many more each second.
	refusedAtOnce = 10
	refusedRate   = 0.1
)

// A refusals has those of a child that the parent has not been told of.
type refusals struct {
	mu      sync.Mutex
	untold  uint64
	at      time.Time // of the last one that was told
	telling bool      // which may take long, if the parent does not read
}

// A refusedLines has those that are not in the log. All children share it.
type refusedLines struct {
	mu     sync.Mutex
	ration ration
	untold uint64
}

// tellRefused has the parent log a refusal, unless there have been many. It does not wait.
func (c *Child) tellRefused(client, rule string) {
	r := &c.refused
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.telling || time.Since(r.at) < tellRefusedEvery {
		r.untold++
		return
	}
	m := control.Message{Kind: control.Refused, Serial: r.untold, Text: client + "\x00" + rule}
	r.telling, r.at, r.untold = true, time.Now(), 0
	go func() {
		c.tell(m)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.telling = false
	}()
}

// logRefused logs a refusal that a child has told of, unless children have told of many. Such lines are no events: strangers
// could fill the ring with them.
func (p *Parent) logRefused(proc *process, m control.Message) {
	r := &p.refused
	r.mu.Lock()
	defer r.mu.Unlock()
	r.untold += m.Serial
	if !r.ration.may(time.Now()) {
		r.untold++
		return
	}
	client, rule, _ := strings.Cut(m.Text, "\x00")
	args := []any{"slot", proc.slot, "pid", proc.pid, "generation", proc.generation, "addr", client, "rule", rule}
	if r.untold > 0 {
		args = append(args, "untold", r.untold)
	}
	r.untold = 0
	p.plainLog.Info("client refused", args...)
}
