// Talker is a daemon whose children write numbered lines, by turns to standard output and to the access log, as fast as -rate says.
// Each line tells the process, the stream and the number; the last one of each stream says so.
//
// With -flood N each child waits for the file -gate and then writes N lines of the same length as fast as it can: to the access log,
// with -direct FILE to a file that all of them append to, or with -jobs as jobs, for each of which the daemon writes a line.
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
	var f flood
	flag.IntVar(&f.lines, "flood", 0, "`lines` to write as fast as possible")
	flag.StringVar(&f.gate, "gate", "", "`file` that is waited for")
	flag.StringVar(&f.direct, "direct", "", "`file` to append to")
	flag.BoolVar(&f.jobs, "jobs", false, "do jobs in the place of writing")
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	cfg.MainLoop = func(ctx context.Context, c *daemon.Child) error {
		c.Ready()
		if f.lines > 0 {
			f.size = *size
			return f.run(ctx, c)
		}
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
