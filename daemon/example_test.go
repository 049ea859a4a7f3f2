package daemon_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/netip"
	"strings"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/reload"
)

// A main: every process of the daemon comes here, the parent and each child. A child runs one job at a time unless Concurrency
// is set, and the pool grows while nobody is idle.
func Example() {
	cfg := daemon.Config{
		Listen: []string{"127.0.0.1:7000"},
		MainLoop: func(ctx context.Context, c *daemon.Child) error {
			for conn := range c.Conns(ctx) { // ends when the child is to leave
				conn.Describe("echo") // what brood status shows
				io.Copy(conn, conn)   // behind the body it is closed
			}
			return nil
		},
		OnClientDisconnect: daemon.KillChild,
		AutoReload:         reload.Self(),
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	if err := daemon.Run(context.Background(), cfg); err != nil {
		log.Fatal(err)
	}
}

// What the program says are defaults; the command line and the environment go before them.
func ExampleConfig_Flags() {
	cfg := daemon.Config{Prefork: 3, StopTimeout: time.Minute}
	flags := flag.NewFlagSet("jobd", flag.ExitOnError) // a program of its own has flag.CommandLine
	cfg.Flags(flags)
	if err := flags.Parse([]string{"-prefork", "8", "-listen", ":8080", "-listen", "unix:/run/jobd.sock"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(cfg.Prefork, cfg.StopTimeout, cfg.Listen)

	// Output:
	// 8 1m0s [:8080 unix:/run/jobd.sock]
}

// A policy of one's own, for Config.OnClientDisconnect: payments are finished whoever has left, of the rest only the job ends if
// it listens, and a report, which does not, is killed.
func ExampleDisconnect() {
	policy := func(d daemon.Disconnect) daemon.Action {
		switch {
		case strings.HasPrefix(d.Text, "POST /payment"):
			return daemon.Ignore
		case strings.HasPrefix(d.Text, "GET /report"):
			return daemon.Kill
		}
		return daemon.Cancel
	}
	left := daemon.Disconnect{PID: 4720, Job: 2, Proto: "tcp", Foreign: netip.MustParseAddrPort("192.0.2.7:40112")}
	for _, text := range []string{"POST /payment/12", "GET /report", "GET /search"} {
		left.Text = text
		fmt.Printf("%s: %s\n", left.Text, policy(left))
	}

	// Output:
	// POST /payment/12: ignore
	// GET /report: kill
	// GET /search: cancel
}
