package netmon

import "net/netip"

// A Known is a TCP connection that a [Monitor] has seen, and of which it has found the holder.
type Known struct {
	PID, FD        int // the process that holds the connection, and as which descriptor
	Inode          uint64
	Local, Foreign netip.AddrPort
}

// Known returns the connections for another Monitor to [Monitor.Recall], among them those whose clients have been reported. A
// client that resets leaves no trace in the kernel's table: a Monitor that begins anew would never find him.
//
// Connections of Unix sockets, and those that our own side has ended, are not among them; of these the table tells all that
// matters for as long as there is something to tell.
func (m *Monitor) Known() []Known {
	known := make([]Known, 0, len(m.entries))
	for i := range m.entries {
		if e := &m.entries[i]; e.path == "" && e.pid != 0 && e.phase != ours {
			known = append(known, Known{e.pid, e.fd, e.inode, e.local, e.foreign})
		}
	}
	return known
}

// Recall has a Monitor that has not looked yet take what another one has known, of the same network namespace, for what it has
// seen itself. Clients that had been reported are reported once more.
//
// Each process must be the same that it was: if it has ended it must not have been reaped.
func (m *Monitor) Recall(known []Known) {
	for _, k := range known {
		if _, twice := m.index[k.Inode]; twice {
			continue
		}
		m.index[k.Inode] = len(m.entries)
		e := entry{inode: k.Inode, local: k.Local, foreign: k.Foreign, pid: k.PID, fd: k.FD}
		if k.FD >= 0 {
			m.slots[slot{k.PID, k.FD}] = k.Inode
		}
		m.entries = append(m.entries, e)
	}
}
