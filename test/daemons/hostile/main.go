// Hostile is a daemon whose jobs are called what their clients like: each request waits until its client leaves, whatever its
// path, and the path is the job's text.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
)

func main() {
	wait := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	cfg := daemon.Config{
		Name:     "hostile",
		Listen:   []string{"127.0.0.1:0"},
		MainLoop: serve.HTTP(&http.Server{Handler: http.HandlerFunc(wait)}),
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	if err := daemon.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}
