package netmon

import (
	"golang.org/x/sys/unix"
)

// process is one of those whose clients matter.
type process struct {
	pid   int
	count int64  // descriptors it had open when last listed; -1: never listed
	when  uint64 // the round of the last listing that went well

	// moved is the round in which one of its connections, gone from the table, was
	// not found behind its descriptor any more.
	moved uint64

	pidfd  int  // while its connections are added to the Watcher, else -1
	closed bool // to the Watcher
}

// want is what one search is for.
type want struct {
	pending int  // connections without a holder
	fresh   bool // some of them were never sought before
	due     bool // some of them are to be sought now
	full    bool // descriptors thought to hold another socket are to be read too
}

// due says in which rounds to seek the holder of a socket that none of our processes
// held so far: more and more seldom, up to each 64th. It may be held by a process that
// is no business of ours, or be on its way to a child.
func (e *entry) due() bool { return e.tries&(e.tries-1) == 0 || e.tries%64 == 0 }

// search seeks the holders of connections that have none, and the new places of those
// that are absent from the table and not where they were.
//
// Reading descriptors is what costs most, so nothing is read without need: only our
// own processes, only if there is something to find, and of a process that was listed
// before only the descriptors not thought to hold another connection. The thought can
// be stale, when a grandchild keeps a socket that its child has closed; so what is
// still not found after two tries is sought everywhere.
func (m *Monitor) search() {
	var w want
	mislaid := false
	for i := range m.entries {
		e := &m.entries[i]
		switch {
		case e.pid != 0 && e.fd < 0:
			mislaid = true
			if p := m.process(e.pid); p != nil {
				p.moved = m.round
			}
		case e.wanting():
			w.pending++
			w.fresh = w.fresh || e.tries == 0
			w.due = w.due || e.due()
			w.full = w.full || e.due() && e.tries >= 2
			e.tries++
		}
	}
	for i := range m.procs {
		if p := &m.procs[i]; w.pending > 0 || p.moved == m.round {
			m.look(p, &w)
		}
	}
	if !mislaid {
		return
	}
	for i := len(m.entries) - 1; i >= 0; i-- {
		e := &m.entries[i]
		if e.pid == 0 || e.fd >= 0 {
			continue
		}
		// Not found anywhere, so the process closed it: nobody has left. If its
		// process could not be read, the question stays open.
		if p := m.process(e.pid); p == nil || p.when == m.round {
			m.remove(i)
		}
	}
}

// look goes through the descriptors of one process, if that can bring anything.
func (m *Monitor) look(p *process, w *want) {
	dir, count, err := m.fds.open(p.pid)
	if err == errGone {
		p.when, p.count = m.round, -1 // it holds nothing, for certain
		return
	}
	if err != nil {
		m.fail(err)
		return
	}
	defer unix.Close(dir)
	changed := count != p.count || count == 0 && w.due
	if p.moved != m.round && !w.fresh && !w.full && !changed {
		return
	}
	var bad error
	err = m.fds.walk(dir, p.pid, func(fd int, name []byte) bool {
		at := slot{p.pid, fd}
		if _, taken := m.slots[at]; taken && !w.full {
			return true
		}
		inode, err := m.fds.inodeAt(dir, p.pid, name)
		if err != nil {
			bad = err
			return true
		}
		if i, ok := m.index[inode]; ok {
			e := &m.entries[i]
			switch {
			case e.wanting():
				m.own(e, at)
				w.pending--
			case e.pid == p.pid && e.fd < 0:
				m.own(e, at)
				if e.path == "" {
					m.suspects = append(m.suspects, inode)
				}
			}
		}
		return w.pending > 0 || p.moved == m.round
	})
	if err == nil || err == errGone {
		err = bad
	}
	if err != nil {
		m.fail(err)
		return
	}
	p.when, p.count = m.round, count
}

// wanting reports whether e needs a holder to be of any use.
func (e *entry) wanting() bool { return e.pid == 0 && (e.phase == talking || e.phase == left) }

// process returns what is known of pid, or nil if it is not one of ours.
func (m *Monitor) process(pid int) *process {
	for i := range m.procs {
		if m.procs[i].pid == pid {
			return &m.procs[i]
		}
	}
	return nil
}

// own notes where e's socket was found just now.
func (m *Monitor) own(e *entry, at slot) {
	e.pid, e.fd, e.sure, e.tries = at.pid, at.fd, m.round, 0
	m.slots[at] = e.inode
}

// mislay notes that e's socket is not where it was, but may be elsewhere in its process.
func (m *Monitor) mislay(e *entry) {
	at := slot{e.pid, e.fd}
	if m.slots[at] == e.inode {
		delete(m.slots, at)
	}
	e.fd = -1
}

// disown forgets who holds e's socket.
func (m *Monitor) disown(e *entry) {
	m.mislay(e)
	e.pid, e.tries = 0, 0
}
