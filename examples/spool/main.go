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
	"log"
	"net"
	"path/filepath"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/reload"
)

func main() {
	s := &spool{passed: map[string]bool{}}
	flag.StringVar(&s.dir, "spool", "spool", "`directory` of the jobs")
	flag.IntVar(&s.attempts, "attempts", 5, "`number` of attempts after which a job is given up")
	flag.DurationVar(&s.backoff, "backoff", time.Second, "`time` from the first attempt to the second; it doubles with each further one, up to five minutes")
	cfg := daemon.Config{
		Name:     "spool",
		Listen:   []string{"127.0.0.1:7001"},
		MainLoop: serve.Conns(s.accept),
		Prefork:  1,
		// A client who has said everything still waits for the name of his job.
		HalfClose:  daemon.HalfCloseIgnore,
		Dequeue:    daemon.Dequeue{MainLoop: s.work, Max: 4, Every: time.Second},
		JobTimeout: time.Minute,
		AutoReload: reload.Self(),
		ChildInit:  func(*daemon.Child) error { return s.init() },
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	var err error
	// Before Run, where the current directory is the same in every process.
	if s.dir, err = filepath.Abs(s.dir); err == nil {
		err = daemon.Run(context.Background(), cfg)
	}
	if err != nil {
		log.Fatalln("spool:", err)
	}
}

// accept puts what a client sends until he closes his half into the spool, and answers with its name when it is safe there.
func (s *spool) accept(_ context.Context, conn net.Conn) {
	const maxJob = 1 << 20 // bytes
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	text, err := io.ReadAll(io.LimitReader(conn, maxJob+1))
	if len(text) > maxJob {
		err = fmt.Errorf("a job has %d bytes at most", maxJob)
	}
	answer := ""
	if err == nil {
		answer, err = s.put(text)
	}
	if err != nil {
		answer = "error: " + err.Error()
	}
	fmt.Fprintln(conn, answer)
}
