package netmon

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Source is a [Snapshotter] that has a name, for the log, and that may hold a
// descriptor open until it is closed.
type Source interface {
	Snapshotter

	// Name returns what is asked: "inet_diag" or "procfs".
	Name() string

	// Close lets go of what the source holds open. The source can be used again.
	Close() error
}

// Choice says which source an [Auto] uses, for the log.
type Choice struct {
	// Source is the name of the source in use: "inet_diag" or "procfs".
	Source string

	// Err is what speaks against inet_diag, which is used otherwise; nil if nothing does.
	Err error
}

// String returns the name of the source, and the reason if it is not the best.
func (c Choice) String() string {
	if c.Err == nil {
		return c.Source
	}
	return c.Source + ", because of: " + c.Err.Error()
}

// Auto is the source that [Open] returns: a [Diag], or a [Table] as soon as the kernel
// refuses to answer a Diag. It is not safe for concurrent use.
type Auto struct {
	diag   *Diag // nil: given up
	table  *Table
	failed int // times in a row that diag has failed
	choice Choice
	news   bool // the choice has changed and was not told yet
}

// failures is how often in a row a Diag may fail, with errors that may pass, before it
// is given up.
const failures = 3

// Open returns the best source for the network namespace of fs, and which it is and why,
// for the log. It never fails: what is read from proc may still prove unreadable, which
// is for Snapshot to say.
//
// A Diag is not chosen if the kernel refuses to answer one empty question (seccomp,
// RestrictAddressFamilies= without AF_NETLINK, a sandbox, a kernel without inet_diag), or
// if fs does not show the network namespace of the calling thread.
func Open(fs FS) (*Auto, Choice) {
	a := &Auto{table: NewTable(fs), diag: NewDiag()}
	a.choice.Source = a.diag.Name()
	if !ownNetwork(fs) {
		a.giveUp(fmt.Errorf("netmon: %s is not known to be this thread's own network namespace", fs.path("net")))
	} else if err := a.diag.Probe(); err != nil {
		a.giveUp(err)
	}
	a.news = false
	return a, a.choice
}

// Name returns the name of the source in use: "inet_diag" or "procfs".
func (a *Auto) Name() string { return a.choice.Source }

// Changed returns the choice, and whether it is another than Open or an earlier Changed
// has told. That happens once at most, from inet_diag to procfs; there is no way back.
func (a *Auto) Changed() (Choice, bool) {
	news := a.news
	a.news = false
	return a.choice, news
}

// Close lets go of what is held open. The source can be used again.
func (a *Auto) Close() error {
	if a.diag == nil {
		return nil
	}
	return a.diag.Close()
}

// Snapshot appends the rows that f wants to dst and returns the longer slice. If the Diag
// fails, the Table answers, from the same kernel; and for good if the kernel has refused,
// or if it is the third failure in a row.
func (a *Auto) Snapshot(dst []Conn, f Filter) ([]Conn, error) {
	if a.diag != nil {
		rows, err := a.diag.Snapshot(dst, f)
		if err == nil {
			a.failed = 0
			return rows, nil
		}
		a.failed++
		if denied(err) || a.failed == failures {
			a.giveUp(err)
		}
	}
	return a.table.Snapshot(dst, f)
}

func (a *Auto) giveUp(err error) {
	a.diag.Close()
	a.diag = nil
	a.choice = Choice{Source: a.table.Name(), Err: err}
	a.news = true
}

// denied reports whether asking again is useless. A kernel without inet_diag says EINVAL
// or ENOENT (net/core/sock_diag.c, net/ipv4/inet_diag.c).
func denied(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno) && slices.Contains([]unix.Errno{
		unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT,
		unix.EOPNOTSUPP, unix.EINVAL, unix.ENOENT,
	}, errno)
}

// ownNetwork reports whether the tables below fs are those of this thread's network
// namespace, which a Diag asks.
func ownNetwork(fs FS) bool {
	var own, other unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err != nil {
		return false
	}
	// fs is a mount of proc, or the directory of a process below one.
	return slices.ContainsFunc([]string{"self/ns/net", "ns/net"}, func(name string) bool {
		return unix.Stat(fs.path(name), &other) == nil && other.Dev == own.Dev && other.Ino == own.Ino
	})
}
