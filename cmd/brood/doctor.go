package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/cmd/brood/internal/doctor"
	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/scoreboard"
)

func newDoctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "doctor [flags] [" + daemonArg + "]",
		GroupID: groupLook,
		Short:   "what is wrong around a daemon, or on this system, and what to do about it",
		Long: "Doctor compares a daemon with what the system allows it: open files, processes, memory, queues and watches; it looks for files\n" +
			"that dead daemons have left, for others on its addresses, for what keeps the parent from seeing clients leave, and whether its\n" +
			"unit file fits. Without a daemon it looks at the system. It exits with 1 if something is wrong, warnings aside.\n" +
			"What a program sets for itself is not seen: the flags, the environment and the file of -config count, and the defaults.",
		Example: "  brood doctor jobs\n  brood doctor --listen :8080\n  brood doctor --unit jobd.service jobs",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneDaemon(cmd, args)
		},
		ValidArgsFunction: completeDaemon,
	}
	asJSON := jsonFlag(cmd, "print JSON")
	listen := cmd.Flags().StringArray("listen", nil, "an `address` to look who listens on it, beside the daemon's; repeat for more")
	unit := cmd.Flags().String("unit", "", "unit `file` to look into; default: the one that systemd has for the daemon")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d := doctor.Daemon{Settings: doctor.Defaults()}
		s := doctor.Here()
		if len(args) > 0 {
			t, err := find(args[0])
			if err != nil {
				return err
			}
			if d, err = t.subject(s); err != nil {
				return err
			}
		}
		d.Listen = append(d.Listen, *listen...)
		found := doctor.Examine(s, d)
		u, err := unitFor(s, d, *unit)
		if err != nil {
			return err
		}
		if u != nil {
			found = append(found, doctor.CheckUnit(u, d)...)
		}
		out := cmd.OutOrStdout()
		if *asJSON {
			err = printJSON(out, struct {
				OK       bool             `json:"ok"`
				Findings []doctor.Finding `json:"findings"`
			}{!doctor.Failed(found), found})
		} else {
			for _, f := range found {
				if _, err = fmt.Fprintln(out, logs.Escape(f.String())); err != nil {
					break
				}
			}
		}
		if err == nil && doctor.Failed(found) {
			err = errTold
		}
		return err
	}
	return cmd
}

// subject is what is known of the daemon to be examined, also if it does not run any more.
func (t target) subject(s doctor.System) (doctor.Daemon, error) {
	d := doctor.Daemon{RunDir: t.dir, Settings: doctor.Defaults()}
	b, err := scoreboard.Read(t.board())
	if errors.Is(err, os.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	d.Name, d.Program, d.Listen = b.Name, b.Program, addresses(b)
	if !view.Alive(view.Parent(b.Identity)) {
		return d, nil
	}
	d.PID, d.Settings = b.PID, doctor.SettingsOf(s, b.PID)
	for _, c := range b.Children {
		if c.PID > 0 {
			d.Children = append(d.Children, c.PID)
		}
	}
	return d, nil
}

// addresses reads what the scoreboard says of the listeners.
func addresses(b *scoreboard.Snapshot) []string {
	var all []string
	for _, a := range b.Addresses() {
		if strings.HasPrefix(a, "/") {
			a = "unix:" + a
		}
		all = append(all, a)
	}
	return all
}

// unitTime is how long systemctl may take.
const unitTime = 5 * time.Second

// unitFor reads the unit file that is named, or else asks systemd for that of a daemon that it has started; nil: there is none.
func unitFor(s doctor.System, d doctor.Daemon, file string) (doctor.Unit, error) {
	if file != "" {
		st, err := os.Stat(file)
		if err == nil && !st.Mode().IsRegular() {
			err = fmt.Errorf("%s is no file", file) // a pipe would be waited for, a device read without end
		}
		if err != nil {
			return nil, err
		}
		b, err := os.ReadFile(file)
		return doctor.ParseUnit(string(b)), err
	}
	if d.PID == 0 {
		return nil, nil
	}
	name := doctor.ServiceOf(s, d.PID)
	if name == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), unitTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "cat", "--", name).Output()
	if err != nil { // no systemctl, or a group that only looks like a unit
		return nil, nil
	}
	return doctor.ParseUnit(string(out)), nil
}
