package netmon

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// WatchWith has [Monitor.Poll] add each connection of which it has found the holder to w, from its next call on. When w then
// tells of anything, that is the reason to call Poll at once and not when it is due.
//
// With nil no more are added.
func (m *Monitor) WatchWith(w *Watcher) {
	m.watcher, m.unwatched = w, nil
	for i := range m.entries {
		m.entries[i].armed = false
	}
	for i := range m.procs {
		m.procs[i].closed = false
	}
}

// Unwatched returns why connections of some process are not added to the Watcher; nil if all are. That is so until
// WatchWith is called again.
func (m *Monitor) Unwatched() error { return m.unwatched }

// arm adds the connections to the Watcher that are not there yet.
func (m *Monitor) arm() {
	if m.watcher == nil {
		return
	}
	for i := range m.entries {
		e := &m.entries[i]
		if e.armed || e.phase != talking || e.pid == 0 || e.fd < 0 {
			continue
		}
		p := m.process(e.pid)
		if p == nil || p.closed {
			continue
		}
		e.armed = true
		err := p.open()
		if err == nil {
			err = m.watcher.Add(p.pidfd, e.fd, e.inode)
		}
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
			// Gone or moved within the last moment. If it was moved, Poll finds it, and sees its end when it is due.
		default:
			m.unwatched, p.closed = err, true
		}
	}
	for i := range m.procs {
		m.procs[i].close()
	}
}

// open opens the process for the Watcher, until close. Its number is no other's yet, as long as it is one of the caller's
// children.
func (p *process) open() error {
	if p.pidfd >= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err == unix.ESRCH {
		return fs.ErrNotExist
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	p.pidfd = fd
	return nil
}

func (p *process) close() {
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
		p.pidfd = -1
	}
}
