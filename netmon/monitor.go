package netmon

import (
	"net/netip"
	"slices"
)

// watched are the states in which an accepted connection has an inode.
const watched = States(1<<Established | 1<<CloseWait | 1<<FinWait1 | 1<<FinWait2 | 1<<Closing | 1<<LastAck)

// phase is what is known of a connection.
type phase uint8

const (
	talking phase = iota // neither side has been seen to end it
	left                 // the client has left, which is to be reported
	ours                 // our side ended it: never to be reported
	told                 // reported
)

// entry is a connection that the monitor remembers. There is one for each inode.
type entry struct {
	inode          uint64
	local, foreign netip.AddrPort

	path   string // of a Unix socket, and empty for TCP
	cookie uint64 // of a Unix socket

	// pid holds the socket as descriptor fd. Pid 0: no holder is known. Fd -1: pid
	// held it, but not where it was last time.
	pid, fd int

	seen  uint64 // the round whose look showed the row last
	sure  uint64 // the round in which pid was last found to hold the socket
	tries uint32 // how often a holder has been sought in vain
	phase phase
	how   How  // in phases left and told, in what way
	armed bool // the Watcher has it, or need not
}

// slot is a descriptor of a process.
type slot struct{ pid, fd int }

// Monitor finds the clients that have left, by comparing looks at the kernel's table.
//
// What it remembers is in proportion to the connections there are at the moment. It is
// not safe for concurrent use, and starts no goroutines.
type Monitor struct {
	snap  Snapshotter
	fds   *fdDir
	ports []uint16
	procs []process

	unix  UnixSnapshotter // nil if no Unix sockets are watched
	paths []string

	watcher   *Watcher // nil if there is none
	unwatched error    // why some process is not watched

	round   uint64
	entries []entry
	index   map[uint64]int  // inode to place in entries
	slots   map[slot]uint64 // where a socket was last found, and its inode
	err     error           // the first thing that went wrong in this Poll

	// Used within one Poll and kept for their memory.
	rows     []Conn
	unixRows []UnixConn
	suspects []uint64 // inodes held by a process, but absent from the table
	ended    map[[2]netip.AddrPort]bool
}

// NewMonitor returns a Monitor that has seen nothing yet. Below fs it looks up which
// process holds a socket; snap shows the connections, and nil means NewTable(fs).
func NewMonitor(fs FS, snap Snapshotter) *Monitor {
	if snap == nil {
		snap = NewTable(fs)
	}
	return &Monitor{
		snap:  snap,
		fds:   newFDDir(fs),
		index: make(map[uint64]int),
		slots: make(map[slot]uint64),
		ended: make(map[[2]netip.AddrPort]bool),
	}
}

// Poll takes one look, and appends to dst the clients that have left and were not
// reported before.
//
// Ports are the local ports of our listeners, pids the processes whose clients
// matter; a connection counts only if it has such a port and such a holder. Pass
// every port and process that is to be watched still. The connections of one that is
// missing from a call are not reported by that call; if it comes back they count as
// new, though of a process (not of a port) it is remembered which were reported.
// With no pids Poll does not look at all, and with no ports it looks at Unix sockets
// only, if they are watched (WatchUnix). Neither slice is kept.
//
// A client is found if it closed since the last call, or before the first one, as
// long as our process has not answered by closing too. It is found if it reset a
// connection that an earlier call has seen. A client that resets costs a second look
// at the table within the same call, to be certain. A client of a Unix socket may be
// reported twice: as HalfClosed, and when it has closed after that as Closed.
//
// With an error the rest of the result still holds. If the table could not be read,
// nothing has changed, and the next call compares with the one before; if it was the
// dump of Unix sockets, that holds for these alone. If a process
// could not be looked into (fs.ErrPermission, or too many open files), its clients
// are not reported; the error is the first of its kind. A process that has ended is
// no error, and loses no clients.
func (m *Monitor) Poll(dst []Lost, ports []uint16, pids []int) ([]Lost, error) {
	m.err = nil
	m.setPorts(ports)
	m.setPIDs(pids)
	if len(m.ports) == 0 && m.unix == nil || len(m.procs) == 0 {
		return dst, nil
	}
	m.rows = m.rows[:0]
	if len(m.ports) > 0 {
		rows, err := m.snap.Snapshot(m.rows, Filter{Ports: m.ports, States: watched})
		if err != nil {
			return dst, err
		}
		m.rows = rows
	}
	m.round++
	m.suspects = m.suspects[:0]
	m.fold(m.rows)
	m.lookUnix()
	m.verify()
	m.search()
	m.arm()
	dst = m.reportClosed(dst)
	dst = m.reportReset(dst)
	return dst, m.err
}

// fold brings the entries up to what rows show.
func (m *Monitor) fold(rows []Conn) {
	for i := range rows {
		r := &rows[i]
		if r.Inode == 0 || !watched.Has(r.State) {
			continue
		}
		ourEnd := r.State != Established && r.State != CloseWait
		at, known := m.index[r.Inode]
		if known && m.entries[at].pair() != [2]netip.AddrPort{r.Local, r.Remote} {
			if m.entries[at].seen == m.round {
				// Two rows for one socket are two paths of an MPTCP connection
				// (net/mptcp/protocol.c, mptcp_sock_graft). The end of a path is
				// not the end of the connection.
				m.entries[at].phase = ours
				continue
			}
			// The kernel's counter of inodes has come round. It is another socket.
			m.remove(at)
			known = false
		}
		if !known {
			if ourEnd {
				continue
			}
			at = len(m.entries)
			m.index[r.Inode] = at
			m.entries = append(m.entries, entry{inode: r.Inode, local: r.Local, foreign: r.Remote, fd: -1})
		}
		e := &m.entries[at]
		e.seen = m.round
		switch {
		case ourEnd:
			e.phase = ours
		case r.State == CloseWait && e.phase == talking:
			e.phase, e.how = left, Closed
		}
	}
}

// reportClosed reports the clients that are seen to have left.
func (m *Monitor) reportClosed(dst []Lost) []Lost {
	for i := range m.entries {
		if e := &m.entries[i]; e.phase == left && e.seen == m.round && e.pid != 0 && e.sure == m.round {
			dst = append(dst, m.tell(e, e.how))
		}
	}
	return dst
}

// tell makes the report about e and sees to it that there will be no other.
func (m *Monitor) tell(e *entry, how How) Lost {
	e.phase, e.how = told, how
	l := Lost{PID: e.pid, Proto: "tcp", Local: e.local, Foreign: e.foreign, Path: e.path, Inode: e.inode, How: how}
	if e.path != "" {
		l.Proto = "unix"
	}
	return l
}

// setPorts takes over the ports, and forgets connections to others. Their rows would no
// longer be shown, and look like resets.
func (m *Monitor) setPorts(ports []uint16) {
	if slices.Equal(m.ports, ports) {
		return
	}
	m.ports = append(m.ports[:0], ports...)
	for i := len(m.entries) - 1; i >= 0; i-- {
		if e := &m.entries[i]; e.path == "" && !slices.Contains(m.ports, e.local.Port()) {
			m.remove(i)
		}
	}
}

// setPIDs takes over the processes. What is known of those that stay is kept;
// connections held by others need a new holder.
func (m *Monitor) setPIDs(pids []int) {
	same := slices.EqualFunc(m.procs, pids, func(p process, pid int) bool { return p.pid == pid })
	if same {
		return
	}
	old := m.procs
	m.procs = make([]process, 0, len(pids))
	for _, pid := range pids {
		p := process{pid: pid, count: -1, pidfd: -1}
		for _, o := range old {
			if o.pid == pid {
				p = o
			}
		}
		if pid > 0 {
			m.procs = append(m.procs, p)
		}
	}
	for i := range m.entries {
		if e := &m.entries[i]; e.pid != 0 && m.process(e.pid) == nil {
			m.disown(e)
		}
	}
}

// remove forgets the entry at i. The last one takes its place, so whoever removes in a
// loop must run backwards.
func (m *Monitor) remove(i int) {
	m.disown(&m.entries[i])
	delete(m.index, m.entries[i].inode)
	end := len(m.entries) - 1
	if i != end {
		m.entries[i] = m.entries[end]
		m.index[m.entries[i].inode] = i
	}
	m.entries[end] = entry{}
	m.entries = m.entries[:end]
}

func (m *Monitor) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}
