// Jobs is an HTTP daemon that runs long jobs, one per child, and ends a job with its child when nobody waits for it any
// more.
//
//	go run ./examples/jobs
//	curl 'http://127.0.0.1:8080/'
//	curl 'http://127.0.0.1:8080/job?seconds=30&kind=spin&id=a'
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/reload"
)

// build says which version of the program this is: set it with -ldflags "-X main.build=NAME". Without that it is a hash
// of the running program.
var build string

func main() {
	heartbeat := flag.String("heartbeat", "", "`directory` in which each job appends to a file of its id while it works")
	cfg := daemon.Config{
		Name:               "jobs",
		Listen:             []string{"127.0.0.1:8080"},
		OnClientDisconnect: daemon.KillChild,
		// These jobs have nothing to clean up, so a job that does not listen need not be waited for.
		KillGrace:  20 * time.Millisecond,
		AutoReload: reload.Self(),
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()

	s := &server{}
	cfg.ChildInit = func(c *daemon.Child) error {
		s.child = c
		return s.identify()
	}
	// Resolved before Run, where the current directory is the same in every process.
	if err := s.beatIn(*heartbeat); err != nil {
		fmt.Fprintln(os.Stderr, "jobs:", err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.hello)
	mux.HandleFunc("GET /job", s.job)
	cfg.MainLoop = serve.HTTP(&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second})
	if err := daemon.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, "jobs:", err)
		os.Exit(1)
	}
}

type server struct {
	child *daemon.Child
	build string
	beats string // directory for heartbeats; empty: none
}

// identify finds out which build this is. /proc/self/exe is the file that is running, whatever lies at its path now.
func (s *server) identify() error {
	if s.build = build; s.build != "" {
		return nil
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	s.build = fmt.Sprintf("%x", h.Sum(nil)[:4])
	return nil
}

func (s *server) hello(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "pid=%d slot=%d generation=%d build=%s\n", os.Getpid(), s.child.Slot(), s.child.Generation(), s.build)
}

// job runs for ?seconds=N, works as ?kind= says, and answers when it is done.
func (s *server) job(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	seconds, err := strconv.ParseFloat(q.Get("seconds"), 64)
	if err != nil || !(seconds >= 0 && seconds <= 86400) {
		http.Error(w, "seconds: want a number from 0 to 86400", http.StatusBadRequest)
		return
	}
	id := q.Get("id")
	work, ok := kinds[q.Get("kind")]
	if !ok {
		http.Error(w, "kind: want sleep, spin or shell", http.StatusBadRequest)
		return
	}
	beat, err := s.beat(id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := work(r.Context(), time.Duration(seconds*float64(time.Second)), beat); err != nil {
		// Whoever is still there must not take this for an answer.
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintf(w, "done id=%s pid=%d generation=%d\n", id, os.Getpid(), s.child.Generation())
}
