package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/brooddaemon/brood/cmd/brood/internal/web"
	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/logs"
)

func newWeb() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "web [flags] [LABEL=]" + daemonArg + "...",
		GroupID: groupLook,
		Short:   "a page that shows daemons live, with metrics for Prometheus",
		Long: "Web serves, until it gets TERM or INT, a page that shows daemons live, /metrics for Prometheus, /healthz (200 if every\n" +
			"daemon serves, else 503 and why not) and /status.json; all of it also for one daemon, below /d/LABEL/. It asks nobody:\n" +
			"it reads scoreboards, and nothing can be changed through it. A daemon need not run yet. Whoever can connect can read:\n" +
			"beyond this machine, let a proxy ask for a password. It needs no more rights than to read the run directories.",
		Example: "  brood web jobs\n  brood web --listen 127.0.0.1:9200 jobs api=/run/user/1000/api\n  curl -f http://127.0.0.1:9180/healthz",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("which daemons? a run directory, a name, or a process id is missing")
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return completeDaemon(cmd, nil, typed) // any number of them
		},
	}
	listen := cmd.Flags().String("listen", "127.0.0.1:9180", "`ADDRESS` to listen on")
	hosts := cmd.Flags().StringArray("host", nil, "answer requests for this `NAME`, too, that a proxy passes on; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var all []web.Daemon
		for _, arg := range args {
			d, err := webDaemon(arg)
			if err != nil {
				return err
			}
			all = append(all, d)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return serveWeb(ctx, all, *listen, *hosts, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// webDaemon finds a daemon, which need not run. Its label is what the user says, or the name, or that of the directory.
func webDaemon(arg string) (web.Daemon, error) {
	label, name, ok := strings.Cut(arg, "=")
	if !ok || strings.ContainsRune(label, os.PathSeparator) {
		label, name = "", arg
	}
	t, err := find(name)
	if err != nil && control.CheckName(name) == nil && strings.Trim(name, "0123456789") != "" {
		t, err = target{control.RunDir(name)}, nil
	}
	if label == "" {
		label = filepath.Base(t.dir)
	}
	return web.Daemon{Name: label, Dir: t.dir}, err
}

func serveWeb(ctx context.Context, all []web.Daemon, listen string, hosts []string, out, errw io.Writer) error {
	if name, _, err := net.SplitHostPort(listen); err == nil && name != "" && net.ParseIP(name) == nil {
		hosts = append(hosts, name)
	}
	s, err := web.New(all, hosts...)
	if err != nil {
		return usageError{err}
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	for _, d := range all {
		if t := (target{d.Dir}); !exists(t.board()) {
			fmt.Fprintf(errw, "brood: web: warning: %s does not run yet: there is no %s\n", d.Name, t.board())
		}
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		fmt.Fprintf(errw, "brood: web: warning: %s can be reached from other machines, and nobody is asked who he is: "+
			"whoever connects sees what jobs do for whom\n", l.Addr())
	}
	if os.Geteuid() == 0 {
		fmt.Fprintln(errw, "brood: web: warning: this runs as root, which it needs not: start it as the user of the daemon, "+
			"or, if that is root, as another user with the capability CAP_DAC_READ_SEARCH alone")
	}
	fmt.Fprintf(out, "http://%s/\n", l.Addr())
	return s.Serve(ctx, l, log.New(escaped{errw}, "brood: web: ", 0))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// escaped writes lines that strangers may have had a hand in.
type escaped struct{ w io.Writer }

func (e escaped) Write(b []byte) (int, error) {
	_, err := fmt.Fprintln(e.w, logs.Escape(strings.TrimRight(string(b), "\n")))
	return len(b), err
}
