// Spool is a queue in a directory. Who has work hands in a file, or asks the daemon to; children of Config.Dequeue take one
// job after the other, try again what fails, and lose none, whoever is killed at whatever moment.
//
//	go run ./examples/spool -spool /tmp/spool
//	printf 'words\nto be or not to be\n' | nc -N 127.0.0.1 7001     # prints the name of the job
//	cat /tmp/spool/done/NAME.result
//
// Without the network: write a file to /tmp/spool/tmp and move it to /tmp/spool/new, under a name that is used once.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/reload"
)

// Limits on who hands in a job.
const (
	maxJob    = 1 << 20 // bytes
	inputTime = 10 * time.Second
)

func main() {
	s := &spool{}
	flag.StringVar(&s.dir, "spool", "spool", "`directory` of the jobs")
	flag.IntVar(&s.attempts, "attempts", 5, "`number` of attempts after which a job is given up")
	flag.DurationVar(&s.backoff, "backoff", time.Second, "`time` from the first attempt to the second; it doubles with each further one")
	flag.DurationVar(&s.maxBackoff, "max-backoff", 5*time.Minute, "longest `time` between two attempts")
	cfg := daemon.Config{
		Name:     "spool",
		Listen:   []string{"127.0.0.1:7001"},
		MainLoop: serve.Conns(s.accept),
		Prefork:  1,
		// A client who has said everything still waits for the name of his job.
		HalfClose: daemon.HalfCloseIgnore,
		// Only those that are missing are started, so nothing is lost by looking often.
		Dequeue:    daemon.Dequeue{MainLoop: s.work, Max: 4, Every: time.Second},
		JobTimeout: time.Minute,
		AutoReload: reload.Self(),
		ChildInit:  func(*daemon.Child) error { return s.init() },
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	// Before Run, where the current directory is the same in every process.
	dir, err := filepath.Abs(s.dir)
	if s.dir = dir; err == nil {
		err = daemon.Run(context.Background(), cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "spool:", err)
		os.Exit(1)
	}
}

// accept puts what a client sends until he closes his half into the spool, and answers with its name when it is safe there.
func (s *spool) accept(_ context.Context, conn net.Conn) {
	conn.SetDeadline(time.Now().Add(inputTime))
	text, err := io.ReadAll(io.LimitReader(conn, maxJob+1))
	if err == nil && len(text) > maxJob {
		err = fmt.Errorf("a job has %d bytes at most", maxJob)
	}
	id := ""
	if err == nil {
		id, err = s.put(text)
	}
	if err != nil {
		fmt.Fprintln(conn, "error:", err)
		return
	}
	fmt.Fprintln(conn, id)
}
