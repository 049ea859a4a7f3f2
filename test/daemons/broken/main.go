// Broken is a daemon that can go wrong in every way that a test asks for: at its start (-break), in its main loop
// (/end), as a build (the variable defect), and in its jobs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/reload"
)

// Set with -ldflags "-X main.build=B -X main.defect=exit".
var (
	build  = "none"
	defect string // exit: the program ends before it can be a daemon; init, hang: its children cannot start;
	// dies-DURATION: they die so long after they were ready
)

// slowInit is how long ChildInit takes with -break init-slow.
const slowInit = 300 * time.Millisecond

func main() {
	if defect == "exit" {
		fmt.Fprintln(os.Stderr, "broken: this build ends at once")
		os.Exit(7)
	}
	how := flag.String("break", "", "what goes wrong: init-error, init-panic, init-hang, init-slow, init-stairs, loop-silent, loop-return, "+
		"loop-error, loop-panic, loop-goexit, loop-exit, after-init, after-init-hang")
	auto := flag.Bool("auto", false, "reload when the program changes")
	gone := flag.String("gone", "kill", "what happens to the job of a lost client: kill or cancel")
	b := &broken{end: make(chan string, 1)}
	cfg := daemon.Config{
		Name:               "broken",
		OnClientDisconnect: daemon.KillChild,
		ChildInit:          func(c *daemon.Child) error { return b.init(c, *how) },
		MainLoop:           func(ctx context.Context, c *daemon.Child) error { return b.loop(ctx, c, *how) },
		AfterInit: func(*daemon.Parent) error {
			switch *how {
			case "after-init":
				return errors.New("this hook fails")
			case "after-init-hang":
				time.Sleep(time.Hour)
			}
			return nil
		},
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	if *gone == "cancel" {
		cfg.OnClientDisconnect = daemon.CancelJob
	}
	if *auto {
		cfg.AutoReload = reload.Self()
	}
	if err := daemon.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, "broken:", err)
		os.Exit(1)
	}
}

type broken struct {
	child *daemon.Child
	end   chan string // how the main loop is to end
}

func (b *broken) init(c *daemon.Child, how string) error {
	b.child = c
	switch {
	case how == "init-error", defect == "init":
		return errors.New("this child does not like to start")
	case how == "init-panic":
		panic("this child panics at its start")
	case how == "init-hang", defect == "hang":
		time.Sleep(time.Hour)
	case how == "init-slow":
		time.Sleep(slowInit)
	case how == "init-stairs": // each child takes longer than the one before
		time.Sleep(time.Duration(c.Slot()) * slowInit)
	}
	return nil
}

// loop serves requests until it is told how to end.
func (b *broken) loop(ctx context.Context, c *daemon.Child, how string) error {
	switch how {
	case "loop-silent":
		<-ctx.Done()
		return nil
	case "loop-return", "loop-error", "loop-panic", "loop-goexit", "loop-exit":
		return finish(how[len("loop-"):])
	}
	if life, ok := strings.CutPrefix(defect, "dies-"); ok {
		d, err := time.ParseDuration(life)
		if err != nil {
			return err
		}
		time.AfterFunc(d, func() { os.Exit(9) })
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", b.hello)
	mux.HandleFunc("GET /end", b.endLoop)
	mux.HandleFunc("GET /sh", shell)
	mux.HandleFunc("GET /say", say)
	mux.HandleFunc("GET /dial", dial)
	served := make(chan error, 1)
	go func() { served <- serve.HTTP(&http.Server{Handler: mux})(ctx, c) }()
	select {
	case err := <-served:
		return err
	case how := <-b.end:
		return finish(how)
	}
}

func finish(how string) error {
	switch how {
	case "error":
		return errors.New("this main loop fails")
	case "panic":
		panic("this main loop panics")
	case "goexit":
		runtime.Goexit()
	case "exit":
		os.Exit(9)
	}
	return nil
}

func (b *broken) hello(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "pid=%d slot=%d generation=%d build=%s\n", os.Getpid(), b.child.Slot(), b.child.Generation(), build)
}

// endLoop ends the main loop of the child that gets the request: /end?how=return|error|panic|goexit|exit.
func (b *broken) endLoop(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "pid=%d\n", os.Getpid())
	b.end <- r.FormValue("how")
}

// shell runs a script and answers with its output: /sh?c=SCRIPT.
func shell(w http.ResponseWriter, r *http.Request) {
	out, err := exec.CommandContext(r.Context(), "sh", "-c", r.FormValue("c")).CombinedOutput()
	w.Write(out)
	if err != nil {
		fmt.Fprintln(w, "sh:", err)
	}
}

// say writes a line to standard output and one to standard error: /say?text=TEXT.
func say(_ http.ResponseWriter, r *http.Request) {
	fmt.Println("out " + r.FormValue("text"))
	fmt.Fprintln(os.Stderr, "err "+r.FormValue("text"))
}

// dial opens a connection to a server that closes it at once, keeps its own end for a second, and answers:
// /dial?addr=HOST:PORT. Meanwhile the process holds a connection whose other side has left, but no client has.
func dial(w http.ResponseWriter, r *http.Request) {
	c, err := net.Dial("tcp", r.FormValue("addr"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
		http.Error(w, fmt.Sprintf("read %q, %v", b, err), http.StatusInternalServerError)
		return
	}
	select {
	case <-time.After(time.Second):
		fmt.Fprintln(w, "done")
	case <-r.Context().Done():
	}
}
