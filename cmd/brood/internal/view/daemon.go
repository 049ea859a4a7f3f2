// Package view makes what a scoreboard and /proc tell of a daemon into text for people: the head and the table that brood
// status prints once and brood top again and again.
//
// All text that may come from children or their clients passes Safe before it is shown.
package view

import (
	"time"

	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/scoreboard"
)

// A Daemon is what the scoreboard says of a daemon, and what /proc adds to that. Encoded as JSON it is the snapshot with the
// fields that stand here.
type Daemon struct {
	Running bool `json:"running"`          // that very parent is alive
	Stopped bool `json:"stopped,omitzero"` // it is, and a signal has stopped it: it decides nothing
	*scoreboard.Snapshot
	Children []Child `json:"children"` // in the place of those of the snapshot
}

// A Child is one child of a daemon.
type Child struct {
	scoreboard.Child
	Memory uint64 `json:"memory,omitzero"` // resident bytes; 0: not known, or it is not that child any more
}

// Look reads the scoreboard at path and looks at the processes that it names. It asks no process and waits for none.
// The errors are those of [scoreboard.Read].
func Look(path string) (*Daemon, error) {
	s, err := scoreboard.Read(path)
	if err != nil {
		return nil, err
	}
	d := &Daemon{Running: Alive(Parent(s.Identity)), Snapshot: s, Children: []Child{}}
	if p, err := ProcessOf(s.PID); err == nil && d.Running {
		d.Stopped = p.Stopped()
	}
	for _, c := range s.Children {
		d.Children = append(d.Children, Child{c, d.memory(c)})
	}
	return d, nil
}

// Parent is the process that a scoreboard names as the daemon's parent.
func Parent(id scoreboard.Identity) pidfile.Identity {
	return pidfile.Identity{PID: id.PID, Start: id.Start, BootID: id.BootID}
}

// Alive reports whether that process runs. While one replaces its program, as an upgrade does, its other threads are ended first,
// and the kernel shows it as a zombie: who has not quite gone is looked at again, for a quarter of a second.
func Alive(id pidfile.Identity) bool {
	for range 5 {
		if id.Alive() {
			return true
		}
		if p, err := ProcessOf(id.PID); err != nil || p.Start != id.Start {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return id.Alive()
}

// memory returns how much of a child is resident, 0 if the number belongs to another process by now.
func (d *Daemon) memory(c scoreboard.Child) uint64 {
	p, err := ProcessOf(c.PID)
	if err != nil || !p.startedAs(c.Born, d.Running, d.PID) {
		return 0
	}
	return p.Resident
}
