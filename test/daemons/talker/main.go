// Talker is a daemon whose children write numbered lines, by turns to standard output and to the access log, as fast as -rate says.
// Each line tells the process, the stream and the number; the last one of each stream says so.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/brooddaemon/brood/daemon"
)

// tick is how often lines are written, as many as are due then.
const tick = 10 * time.Millisecond

func main() {
	cfg := daemon.Config{Name: "talker", AccessFormat: daemon.AccessOwn}
	rate := flag.Int("rate", 1000, "`lines` a second of each child")
	size := flag.Int("size", 100, "`bytes` of each line")
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	cfg.MainLoop = func(ctx context.Context, c *daemon.Child) error {
		c.Ready()
		access := c.AccessLog()
		pad := strings.Repeat("x", *size)
		say := func(n int, word string) error {
			if _, err := fmt.Fprintf(os.Stdout, "talk %d stdout %d %s %s\n", os.Getpid(), n, word, pad); err != nil {
				return err
			}
			_, err := fmt.Fprintf(access, "talk %d access %d %s %s\n", os.Getpid(), n, word, pad)
			return err
		}
		begun, n := time.Now(), 0
		for due := time.NewTicker(tick); ; {
			for want := int(time.Since(begun).Seconds() * float64(*rate) / 2); n < want; {
				n++
				if err := say(n, "on"); err != nil {
					return err
				}
			}
			select {
			case <-ctx.Done():
				return say(n+1, "last")
			case <-due.C:
			}
		}
	}
	if err := daemon.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, "talker:", err)
		os.Exit(1)
	}
}
