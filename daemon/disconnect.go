package daemon

import (
	"net/netip"

	"github.com/brooddaemon/brood/netmon"
)

// How says how a client left.
type How = netmon.How

// A Disconnect tells of a client that has left while a job was running for it.
type Disconnect struct {
	PID        int    // the child that runs the job
	Slot       int    // its place on the scoreboard
	Generation uint64 // the version of the code it runs
	Job        uint64 // serial number of the job in that child, from 1
	Text       string // what the child says it is doing
	Proto      string // "tcp" or "unix": how he, or his proxy, was connected
	Local      netip.AddrPort
	Foreign    netip.AddrPort // the client's; not valid: he came by a Unix socket
	Proxy      netip.AddrPort // of the proxy that he came by, by the PROXY protocol; not valid: by none, or by a Unix socket
	Path       string         // of a Unix socket
	How        How
}

// An Action is what happens to a job whose client has left.
type Action int

// The actions.
const (
	// Ignore lets the job go on.
	Ignore Action = iota
	// Cancel ends the job's context. The child lives on.
	Cancel
	// Kill ends the job's context and the child: the child exits as soon as the job has come to its end, and after
	// Config.KillGrace it is killed with everything it has started. A job that has ended by itself in the meantime saves
	// its child: the next job is never hit.
	Kill
)

// String returns the action's word.
func (a Action) String() string {
	switch a {
	case Ignore:
		return "ignore"
	case Cancel:
		return "cancel"
	case Kill:
		return "kill"
	}
	return "unknown: ignored"
}

// client names the client for people.
func (d Disconnect) client() string {
	if d.Foreign.IsValid() {
		return d.Foreign.String()
	}
	return "unix:" + d.Path
}

// CancelJob is the policy that ends the context of a job whose client has left.
func CancelJob(Disconnect) Action { return Cancel }

// KillChild is the policy that ends a job whose client has left together with its child, whether the job listens to
// its context or not.
func KillChild(Disconnect) Action { return Kill }
