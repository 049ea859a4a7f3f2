// Echo is the smallest daemon: it sends back every line it gets, one connection per job.
//
//	go run ./examples/echo -listen 127.0.0.1:7000
//	nc 127.0.0.1 7000
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/reload"
)

func main() {
	cfg := daemon.Config{
		Name:       "echo",
		Listen:     []string{"127.0.0.1:7000"},
		MainLoop:   serve.Conns(echo),
		AutoReload: reload.Self(),
		// A client who has said everything still waits for the echo.
		HalfClose: daemon.HalfCloseIgnore,
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	if err := daemon.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func echo(_ context.Context, conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadBytes('\n')
		if _, werr := conn.Write(line); err != nil || werr != nil {
			return
		}
	}
}
