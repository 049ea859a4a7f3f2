package netmon

import "slices"

// WatchUnix has [Monitor.Poll] look at the connections of listening Unix sockets as
// well, from its next call on; src shows them. Paths are the names of the listeners, as
// they were bound; "@" begins an abstract name. What is known of other names is
// forgotten. With no paths, or no src, Unix sockets are not looked at any more.
//
// The kernel tells a client that has closed from one that has only shut down its
// sending half and waits for the answer: the first is reported as Closed, the second as
// HalfClosed, and once more when it closes after that. There is no Reset: a client that
// closes with unread data, or is killed, has closed.
//
// Our own process can be taken for the client in two ways, as the kernel does not note
// who ended a direction. If it shuts down its reading, that is reported as HalfClosed.
// If it shuts down its writing, and the client then closes, all between two looks, that
// is reported as Closed. Whoever shuts down both directions and stays, it is taken for
// our own end, and never reported.
func (m *Monitor) WatchUnix(src UnixSnapshotter, paths ...string) {
	m.unix, m.paths = src, slices.Clone(paths)
	if src == nil || len(paths) == 0 {
		m.unix, m.paths = nil, nil
	}
	for i := len(m.entries) - 1; i >= 0; i-- {
		if e := &m.entries[i]; e.path != "" && !slices.Contains(m.paths, e.path) {
			m.remove(i)
		}
	}
}

// lookUnix brings the entries of Unix sockets up to what the kernel shows.
func (m *Monitor) lookUnix() {
	if m.unix == nil {
		return
	}
	rows, err := m.unix.Snapshot(m.unixRows[:0], m.paths)
	if err == nil {
		m.unixRows = rows
		m.foldUnix(rows)
		return
	}
	m.fail(err)
	for i := range m.entries {
		if e := &m.entries[i]; e.path != "" {
			e.seen = m.round // for all that is known
		}
	}
}

func (m *Monitor) foldUnix(rows []UnixConn) {
	for i := range rows {
		r := &rows[i]
		at, known := m.index[r.Inode]
		if e := at; known && (m.entries[e].path != r.Path || m.entries[e].cookie != r.Cookie) {
			m.remove(at) // the kernel's counter of inodes has come round
			known = false
		}
		if !known {
			at = len(m.entries)
			m.index[r.Inode] = at
			m.entries = append(m.entries, entry{inode: r.Inode, cookie: r.Cookie, path: r.Path, fd: -1})
		}
		e := &m.entries[at]
		e.seen = m.round
		how, ourEnd := r.judge()
		switch {
		case ourEnd:
			// Even of a connection that is new here: later it may look like the
			// client's doing.
			e.phase = ours
		case how == 0 || e.phase == ours:
		case e.phase == talking, e.how == HalfClosed && how == Closed:
			e.phase, e.how = left, how
		}
	}
}

// judge says how the client has left, and whether it was our side that ended first.
//
// A client that closes gives up its socket's inode first, and only then ends both
// directions (net/unix/af_unix.c, unix_release_sock). In between nothing is sure.
func (c *UnixConn) judge() (how How, ourEnd bool) {
	switch {
	case c.Shutdown == ShutRead && c.Peer != 0:
		return HalfClosed, false
	case c.Shutdown == ShutWrite, c.Shutdown&ShutWrite != 0 && c.Peer != 0:
		return 0, true
	case c.Shutdown&ShutRead != 0:
		return Closed, false
	}
	return 0, false
}
