package netmon

import (
	"net/netip"
)

// verify settles, for each connection that seems lost, whether its holder still holds
// it. Connections that are absent and need no more thought are forgotten.
func (m *Monitor) verify() {
	for i := len(m.entries) - 1; i >= 0; i-- {
		e := &m.entries[i]
		present := e.seen == m.round
		switch {
		case present && (e.phase != left || e.pid == 0):
			continue
		case !present && (e.pid == 0 || e.phase == ours):
			m.remove(i)
			continue
		}
		held, err := m.holds(e)
		switch {
		case err != nil:
			m.fail(err)
		case held && (present || e.phase == told || e.path != ""):
			// A told one that is absent may only have been left out of this look.
			// Forgotten, it would be told again; so it stays as long as its socket.
			// A Unix socket's row stays as long as the socket whatever the client
			// does, so that one can only have been left out.
		case held:
			m.suspects = append(m.suspects, e.inode)
		case present:
			m.disown(e) // for search to find who has it now
		case e.phase == told:
			m.remove(i)
		default:
			m.mislay(e) // the process closed it, or moved it; search will tell
		}
	}
}

// holds reports whether the descriptor that held e's socket holds it still.
func (m *Monitor) holds(e *entry) (bool, error) {
	if e.fd < 0 {
		return false, nil
	}
	inode, err := m.fds.inodeOf(e.pid, e.fd)
	if err != nil {
		return false, err
	}
	if inode != e.inode {
		return false, nil
	}
	e.sure = m.round
	return true, nil
}

// reportReset reports the connections that are gone from the table while a process still
// holds their sockets.
//
// The order of looks makes it certain: the table, the descriptor, the table again, the
// descriptor again. The first two alone would be fooled by a row that was left out,
// the first three by one that was left out just before its process closed it.
func (m *Monitor) reportReset(dst []Lost) []Lost {
	if len(m.suspects) == 0 {
		return dst
	}
	rows, err := m.snap.Snapshot(m.rows[:0], Filter{Ports: m.ports, States: watched | TimeWait.Mask()})
	if err != nil {
		m.fail(err)
		return dst
	}
	m.fold(rows)

	// A socket also leaves the table when our process shut down its side and the
	// client then closed: TIME_WAIT takes over its addresses while the descriptor
	// may stay open for long (net/http keeps it for half a second).
	clear(m.ended)
	for _, inode := range m.suspects {
		if at, ok := m.index[inode]; ok {
			m.ended[m.entries[at].pair()] = false
		}
	}
	for i := range rows {
		if rows[i].State == TimeWait {
			pair := [2]netip.AddrPort{rows[i].Local, rows[i].Remote}
			if _, ok := m.ended[pair]; ok {
				m.ended[pair] = true
			}
		}
	}

	for _, inode := range m.suspects {
		at, ok := m.index[inode]
		if !ok || m.entries[at].seen == m.round {
			continue // its row was only left out of the first look
		}
		e := &m.entries[at]
		if m.ended[e.pair()] {
			m.remove(at)
			continue
		}
		held, err := m.holds(e)
		switch {
		case err != nil:
			m.fail(err)
		case !held:
			m.remove(at)
		case e.phase == left:
			dst = append(dst, m.tell(e, e.how))
		default:
			dst = append(dst, m.tell(e, Reset))
		}
	}
	return dst
}

func (e *entry) pair() [2]netip.AddrPort { return [2]netip.AddrPort{e.local, e.foreign} }
