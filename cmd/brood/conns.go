package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/netmon"
	"github.com/brooddaemon/brood/scoreboard"
)

func newConns() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "conns [flags] " + daemonArg,
		GroupID: groupLook,
		Short:   "the connections of every child, and the jobs that run on them",
		Long: "Conns shows the connections that the children of a daemon hold, as the kernel sees them, and which job runs on each.\n" +
			"It takes the daemon's user or root to see all of them.",
		Example:           "  brood conns jobs\n  brood conns --json jobs",
		Args:              oneDaemon,
		ValidArgsFunction: completeDaemon,
	}
	asJSON := jsonFlag(cmd, "print JSON")
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		return conns(t, *asJSON, cmd.OutOrStdout())
	})
	return cmd
}

// A connection is one that a child of a daemon holds, as the kernel sees it, and the job that runs on it.
type connection struct {
	Slot       int       `json:"slot"`
	PID        int       `json:"pid"`
	Generation uint64    `json:"generation"`
	State      string    `json:"state"` // of ss(8), or connected, half-closed, closed for a Unix socket
	Gone       bool      `json:"gone"`  // the client has left, or has said all he will
	Local      string    `json:"local"`
	Client     string    `json:"client,omitzero"`
	Inode      uint64    `json:"inode"`
	Job        uint64    `json:"job,omitzero"` // 0: idle, or one that the scoreboard does not show
	Started    time.Time `json:"started,omitzero"`
	Text       string    `json:"text,omitzero"`
}

// conns prints the connections of a daemon's children. It asks the kernel and the scoreboard, not the daemon.
func conns(t target, asJSON bool, out io.Writer) error {
	if _, err := t.parent(); err != nil {
		return err
	}
	s, err := scoreboard.Read(t.board())
	if err != nil {
		return err
	}
	all, err := connections(s)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if asJSON {
		if err := printJSON(out, all); err != nil {
			return err
		}
	} else {
		printConns(all, time.Now(), out)
	}
	if err != nil {
		return fmt.Errorf("not all connections are shown, as not every child may be looked into: run this as the daemon's user or as root: %w", err)
	}
	return nil
}

// connections finds them. Who may not look into a child gets what is known of the others, and fs.ErrPermission.
func connections(s *scoreboard.Snapshot) ([]connection, error) {
	// As that process sees it: it may live in another network namespace.
	self := netmon.FS(fmt.Sprintf("/proc/%d", s.PID))
	var filter netmon.Filter
	var paths []string
	for _, addr := range s.Addresses() {
		if ap, err := netip.ParseAddrPort(addr); err == nil {
			filter.Ports = append(filter.Ports, ap.Port())
		} else {
			paths = append(paths, addr)
		}
	}
	children := map[int]scoreboard.Child{}
	pids := []int{}
	for _, c := range s.Children {
		children[c.PID] = c
		pids = append(pids, c.PID)
	}
	held, denied := netmon.Holders(netmon.DefaultFS, pids)
	all := []connection{}
	add := func(c connection) {
		h, ok := held[c.Inode]
		if !ok {
			return // it waits to be accepted, or is another program's
		}
		child := children[h.PID]
		c.Slot, c.PID, c.Generation = child.Slot, child.PID, child.Generation
		if child.Inode == c.Inode {
			c.Job, c.Started, c.Text = child.Job, child.Started, child.Text
		}
		all = append(all, c)
	}
	if len(filter.Ports) > 0 {
		source, _ := netmon.Open(self)
		defer source.Close()
		rows, err := source.Snapshot(nil, filter)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.State != netmon.Listen {
				add(connection{
					State: r.State.String(), Gone: r.State == netmon.CloseWait, Local: r.Local.String(), Client: r.Remote.String(), Inode: r.Inode,
				})
			}
		}
	}
	if len(paths) > 0 {
		source := netmon.NewUnix()
		defer source.Close()
		rows, err := source.Snapshot(nil, paths)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			state := "connected"
			switch {
			case r.Peer == 0:
				state = "closed"
			case r.Shutdown != 0:
				state = "half-closed"
			}
			add(connection{State: state, Gone: r.Peer == 0, Local: r.Path, Inode: r.Inode})
		}
	}
	slices.SortFunc(all, func(a, b connection) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Local, b.Local), cmp.Compare(a.Client, b.Client), cmp.Compare(a.Inode, b.Inode))
	})
	return all, denied
}

func printConns(all []connection, now time.Time, out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SLOT\tPID\tGEN\tSTATE\tLOCAL\tCLIENT\tJOB\tAGE\tWHAT")
	for _, c := range all {
		job := "-"
		if c.Job != 0 {
			job = fmt.Sprint(c.Job)
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Slot, c.PID, c.Generation, c.State, logs.Escape(c.Local), view.OrDash(c.Client),
			job, view.Age(now, c.Started), view.OrDash(logs.Escape(c.Text)))
	}
	w.Flush()
}
