package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
)

// stop asks the daemon to stop and waits until its parent is gone.
func stop(t target, o options, out io.Writer) error {
	deadline := time.Now().Add(o.timeout)
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
	if _, err := t.call(control.Request{Verb: control.VerbStop, Quick: o.quick}, deadline); err != nil {
		if errors.Is(err, errTimeout) {
			return err
		}
		// No answer on the socket, but the process lives: a signal says the same.
		sig := unix.SIGTERM
		if o.quick {
			sig = unix.SIGINT
		}
		if serr := unix.PidfdSendSignal(pidfd, sig, nil, 0); serr != nil && !errors.Is(serr, unix.ESRCH) {
			return errors.Join(err, os.NewSyscallError("pidfd_send_signal", serr))
		}
	}
	if err := awaitExit(pidfd, deadline); err != nil {
		return fmt.Errorf("%w: process %d has not stopped within %v", err, id.PID, o.timeout)
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

// reload asks for a new generation and waits until it has proved itself or has been given up.
func reload(t target, o options, out io.Writer) error {
	return t.renew(control.VerbReload, "reload", o, out)
}

// upgrade asks the parent to replace its own program and waits until the new one has taken over.
func upgrade(t target, o options, out io.Writer) error {
	return t.renew(control.VerbUpgrade, "upgrade", o, out)
}

func (t target) renew(verb, what string, o options, out io.Writer) error {
	r := control.Request{Verb: verb, Begin: !o.wait}
	if _, err := t.call(r, time.Now().Add(o.timeout)); err != nil {
		return err
	}
	if o.wait {
		fmt.Fprintln(out, strings.TrimSuffix(what, "e")+"ed")
	} else {
		fmt.Fprintln(out, what+" begun")
	}
	return nil
}

func reopen(t target, o options, out io.Writer) error {
	if _, err := t.call(control.Request{Verb: control.VerbReopen}, time.Now().Add(o.timeout)); err != nil {
		return err
	}
	fmt.Fprintln(out, "log files reopened")
	return nil
}

// scale moves the number of children that the daemon does not go below.
func scale(t target, o options, out io.Writer) error {
	n, err := strconv.Atoi(o.last)
	if err != nil {
		return fmt.Errorf("%q is not a number of children: want N, +N or -N", o.last)
	}
	r := control.Request{Verb: control.VerbScale, N: n, Delta: strings.ContainsAny(o.last[:1], "+-")}
	if _, err := t.call(r, time.Now().Add(o.timeout)); err != nil {
		return err
	}
	fmt.Fprintln(out, "scaled")
	return nil
}

// call sends a request to the daemon and returns its answer, or the error that the daemon answers with.
func (t target) call(r control.Request, deadline time.Time) (control.Reply, error) {
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
	reply, err := c.Call(ctx, r)
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
