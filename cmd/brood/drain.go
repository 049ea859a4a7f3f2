package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

func newDrain() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "drain [flags] " + daemonArg + " [PID|SLOT]",
		GroupID: groupSteer,
		Short:   "have a child, or all of them, finish their jobs and leave, and wait until they are gone",
		Long: "Drain has one child, by its process id or its slot, finish its jobs and leave; another one takes its place at once. Without a\n" +
			"child all of them leave and none takes their place, while the parent keeps the listeners, so that clients wait in their\n" +
			"queues: until brood scale, or brood reload, brings children back. Jobs that take longer than the daemon's own\n" +
			"-drain-timeout are told to end, and killed.",
		Example: "  brood drain jobs 4720\n  brood drain jobs && brood scale jobs 3",
		Args:    daemonAnd("the process id or the slot of a child", true),

		ValidArgsFunction: completeChild,
	}
	timeout := timeoutFlag(cmd, 6*time.Minute)
	wait := cmd.Flags().Bool("wait", true, "wait until they are gone; --wait=false: until they have been told")
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		return drain(t, args, *wait, *timeout, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	return cmd
}

// drain has a child, or all of them, leave.
func drain(t target, args []string, wait bool, timeout time.Duration, out, errw io.Writer) error {
	if _, err := t.parent(); err != nil {
		return err
	}
	pid, err := t.childIn(args)
	if err != nil {
		return err
	}
	r := control.Request{Verb: control.VerbDrain, PID: pid, Begin: !wait}
	if _, err := t.call(r, time.Now().Add(timeout), errw); err != nil {
		return err
	}
	who, verb := "all children", "have left"
	if pid != 0 {
		who, verb = fmt.Sprintf("child %d", pid), "has left"
	}
	if wait {
		fmt.Fprintln(out, who, verb)
	} else {
		fmt.Fprintln(out, who+": drain begun")
	}
	return nil
}

// childIn returns the process id of the child that the arguments mean; 0: they mean the whole daemon. The process id of a child
// alone means that child, not the daemon that it belongs to.
func (t target) childIn(args []string) (int, error) {
	n, err := strconv.Atoi(args[len(args)-1])
	switch {
	case len(args) == 1 && err != nil:
		return 0, nil
	case err != nil || n < 0:
		return 0, fmt.Errorf("%q is neither a process id nor a slot", args[1])
	}
	board, err := scoreboard.Read(t.board())
	if err != nil {
		return 0, err
	}
	find := func(is func(scoreboard.Child) bool) int {
		if i := slices.IndexFunc(board.Children, is); i >= 0 {
			return board.Children[i].PID
		}
		return 0
	}
	pid := find(func(c scoreboard.Child) bool { return c.PID == n })
	if pid == 0 && len(args) > 1 {
		pid = find(func(c scoreboard.Child) bool { return c.Slot == n })
	}
	if pid == 0 && len(args) > 1 {
		return 0, fmt.Errorf("there is no child %d: it is neither a process id nor a slot that brood status shows", n)
	}
	return pid, nil
}
