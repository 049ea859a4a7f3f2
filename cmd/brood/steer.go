package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/control"
)

func newStop() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "stop [flags] " + daemonArg,
		GroupID: groupSteer,
		Short:   "finish the running jobs, stop, and wait until the daemon is gone",
		Long: "Stop has the daemon finish its running jobs and end, and waits until its parent is gone. Jobs that take longer than the\n" +
			"daemon's own -stop-timeout are told to end, and killed. If the control socket does not answer it sends SIGTERM.",
		Example:           "  brood stop jobs\n  brood stop --quick --timeout 5s jobs",
		Args:              oneDaemon,
		ValidArgsFunction: completeDaemon,
	}
	timeout := timeoutFlag(cmd, time.Minute)
	quick := cmd.Flags().Bool("quick", false, "cancel the running jobs")
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		return stop(t, *quick, *timeout, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	return cmd
}

// stop asks the daemon to stop and waits until its parent is gone.
func stop(t target, quick bool, timeout time.Duration, out, errw io.Writer) error {
	deadline := time.Now().Add(timeout)
	id, err := t.parent()
	if err != nil {
		return err
	}
	// Opened before anything is sent: from here on the descriptor means this process and no other.
	pidfd, err := id.Open()
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	// The answer comes when every child is gone.
	if _, err := t.call(control.Request{Verb: control.VerbStop, Quick: quick}, deadline, errw); err != nil && !errors.Is(err, errTimeout) {
		// No answer on the socket, but the process lives: a signal says the same.
		sig := unix.SIGTERM
		if quick {
			sig = unix.SIGINT
		}
		if serr := unix.PidfdSendSignal(pidfd, sig, nil, 0); serr != nil && !errors.Is(serr, unix.ESRCH) {
			return errors.Join(err, os.NewSyscallError("pidfd_send_signal", serr))
		}
	}
	if err := awaitExit(pidfd, deadline); err != nil {
		return fmt.Errorf("%w: process %d has not stopped within %v", err, id.PID, timeout)
	}
	fmt.Fprintf(out, "stopped: process %d\n", id.PID)
	return nil
}

func awaitExit(pidfd int, deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errTimeout
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		if n > 0 {
			return nil
		}
	}
}

func newReload() *cobra.Command {
	return newRenewal(control.VerbReload, &cobra.Command{
		Use:   "reload [flags] " + daemonArg,
		Short: "start a new generation of children and wait until it has proved itself",
		Long: "Reload replaces the children of a daemon by such of the program that now lies at its path, one after the other, and waits for\n" +
			"the verdict: they have proved themselves, or the old ones go on and it is told why. Running jobs finish on the old code.",
		Example: "  brood reload jobs\n  brood reload --wait=false jobs",
	})
}

func newUpgrade() *cobra.Command {
	return newRenewal(control.VerbUpgrade, &cobra.Command{
		Use:   "upgrade [flags] " + daemonArg,
		Short: "replace the parent's own program, with the children as they are, and wait until the new one has taken over",
		Long: "Upgrade has the parent execute the program that now lies at its path in its own place, after a trial: same process, same\n" +
			"children with their jobs, same listeners. What the children run is a matter of reload.",
		Example: "  brood upgrade jobs && brood reload jobs",
	})
}

// newRenewal completes a command that has the daemon replace something of its own and waits until that is done or given up.
func newRenewal(verb string, cmd *cobra.Command) *cobra.Command {
	cmd.GroupID, cmd.Args, cmd.ValidArgsFunction = groupSteer, oneDaemon, completeDaemon
	timeout := timeoutFlag(cmd, time.Minute)
	wait := cmd.Flags().Bool("wait", true, "wait for the outcome; --wait=false: until it has begun")
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		reply, err := t.call(control.Request{Verb: verb, Begin: !*wait}, time.Now().Add(*timeout), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		outcome := cmd.Name() + " begun"
		if *wait {
			outcome = strings.TrimSuffix(cmd.Name(), "e") + "ed"
		}
		if reply.Text != "" {
			outcome += ", but not all of the configuration: " + view.Safe(reply.Text)
		}
		fmt.Fprintln(cmd.OutOrStdout(), outcome)
		return nil
	})
	return cmd
}

func newReopen() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "reopen [flags] " + daemonArg,
		GroupID:           groupSteer,
		Short:             "reopen the log files",
		Long:              "Reopen has the daemon open its log files anew, after somebody has moved them away.",
		Example:           "  mv access.log access.log.1 && brood reopen jobs",
		Args:              oneDaemon,
		ValidArgsFunction: completeDaemon,
	}
	timeout := timeoutFlag(cmd, 10*time.Second)
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		if _, err := t.call(control.Request{Verb: control.VerbReopen}, time.Now().Add(*timeout), cmd.ErrOrStderr()); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "log files reopened")
		return nil
	})
	return cmd
}

// call sends a request to the daemon and returns its answer, or the error that the daemon answers with. Whoever waits at a
// terminal is shown on errw how far the daemon is.
func (t target) call(r control.Request, deadline time.Time, errw io.Writer) (control.Reply, error) {
	if _, err := t.parent(); err != nil {
		return control.Reply{}, err
	}
	c, err := control.Dial(t.dir)
	if err != nil {
		return control.Reply{}, err
	}
	defer c.Close()
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	p := showProgress(errw, r.Verb)
	defer p.end()
	reply, err := c.Call(ctx, r, p.say)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return reply, fmt.Errorf("%w: the daemon has not answered", errTimeout)
	case err != nil:
		return reply, err
	case !reply.OK:
		return reply, errors.New(reply.Error)
	}
	return reply, nil
}
