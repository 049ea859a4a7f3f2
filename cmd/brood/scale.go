package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/internal/control"
)

func newScale() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "scale [flags] " + daemonArg + " N|+N|-N",
		GroupID: groupSteer,
		Short:   "have N children at least (+N: more, -N: less) and wait until they serve",
		Long: "Scale moves the number of children that the daemon does not go below, which begins at -prefork, and waits until as many\n" +
			"serve. It holds until the daemon stops, and brings children back that brood drain has sent away.",
		Example:           "  brood scale jobs 8\n  brood scale jobs +2\n  brood scale jobs -1",
		Args:              daemonAnd("the number of children", false),
		ValidArgsFunction: completeDaemon,
	}
	timeout := timeoutFlag(cmd, time.Minute)
	cmd.RunE = onDaemon(func(t target, cmd *cobra.Command, args []string) error {
		return scale(t, strings.Replace(args[1], minus, "-", 1), *timeout, cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	return cmd
}

// scale moves the number of children that the daemon does not go below.
func scale(t target, number string, timeout time.Duration, out, errw io.Writer) error {
	n, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("%q is not a number of children: want N, +N or -N", number)
	}
	r := control.Request{Verb: control.VerbScale, N: n, Delta: strings.ContainsAny(number[:1], "+-")}
	if _, err := t.call(r, time.Now().Add(timeout), errw); err != nil {
		return err
	}
	fmt.Fprintln(out, "scaled")
	return nil
}
