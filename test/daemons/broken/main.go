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
	"strconv"
	"strings"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/reload"
)

// Set with -ldflags "-X main.build=B -X main.defect=exit".
var (
	build  = "none"
	defect string // exit, panic: the program ends before it can be a daemon; init, hang: its children cannot start;
	// dies-DURATION: they die so long after they were ready; name: it is another daemon; after-init: its parent cannot start;
	// after-init-exit: nor clean up; prefork-N: it wants N children; listens-ADDRESS,ADDRESS...: it listens there, too
)

// slowInit is how long ChildInit takes with -break init-slow.
const slowInit = 300 * time.Millisecond

func main() {
	if defect == "exit" {
		fmt.Fprintln(os.Stderr, "broken: this build ends at once")
		os.Exit(7)
	}
	if defect == "panic" {
		panic("this build panics at once")
	}
	how := flag.String("break", "", "what goes wrong: init-error, init-if=FILE (while there is such a file), init-panic, init-hang, init-slow, init-stairs, loop-silent, loop-return, "+
		"loop-error, loop-panic, loop-goexit, loop-exit, after-init, after-init-hang; talk: its children write all the time")
	auto := flag.Bool("auto", false, "reload when the program changes")
	queue := flag.Bool("queue", false, "have children with a queue of their own")
	gone := flag.String("gone", "kill", "what happens to the job of a lost client: kill or cancel")
	b := &broken{end: make(chan string, 1)}
	cfg := daemon.Config{
		Name:               "broken",
		OnClientDisconnect: daemon.KillChild,
		ChildInit:          func(c *daemon.Child) error { return b.init(c, *how) },
		MainLoop:           func(ctx context.Context, c *daemon.Child) error { return b.loop(ctx, c, *how) },
		AfterInit: func(*daemon.Parent) error {
			switch {
			case defect == "after-init-exit":
				os.Exit(9)
			case *how == "after-init", defect == "after-init":
				return errors.New("this hook fails")
			case *how == "after-init-hang":
				time.Sleep(time.Hour)
			}
			return nil
		},
	}
	if n, ok := strings.CutPrefix(defect, "prefork-"); ok {
		cfg.Prefork, _ = strconv.Atoi(n)
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	if defect == "name" {
		cfg.Name = "another"
	}
	if addresses, ok := strings.CutPrefix(defect, "listens-"); ok {
		cfg.Listen = append(strings.Split(addresses, ","), cfg.Listen...)
	}
	if *queue {
		cfg.Dequeue.MainLoop = b.dequeue
	}
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
	case strings.HasPrefix(how, "init-if="):
		if _, err := os.Stat(how[len("init-if="):]); err == nil {
			return errors.New("this child does not like to start now")
		}
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
		c.Ready() // the time runs from here, however slow the machine is
		time.AfterFunc(d, func() { os.Exit(9) })
	}
	if how == "talk" {
		talked := make(chan struct{})
		go func() { talk(ctx, c); close(talked) }()
		defer func() { <-talked }()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", b.hello)
	mux.HandleFunc("GET /end", b.endLoop)
	mux.HandleFunc("GET /sh", shell)
	mux.HandleFunc("GET /say", say)
	mux.HandleFunc("GET /sleep", sleep)
	mux.HandleFunc("GET /await", await)
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

// talkEvery is how long one half of a line is without the other.
const talkEvery = 10 * time.Millisecond

// talk writes numbered lines, a half at a time, to everything that a child can write to, until ctx ends. The last one says so.
func talk(ctx context.Context, c *daemon.Child) {
	to := []io.Writer{os.Stdout, os.Stderr, c.AccessLog()}
	all := func(text string) {
		for _, w := range to {
			io.WriteString(w, text)
		}
	}
	for n := 1; ; n++ {
		all(fmt.Sprintf("talk %d of ", n))
		select {
		case <-time.After(talkEvery):
		case <-ctx.Done():
			all(fmt.Sprintf("%d, the last\n", os.Getpid()))
			return
		}
		all(fmt.Sprintf("%d, to be continued\n", os.Getpid()))
		time.Sleep(talkEvery)
	}
}

// sleep answers after a while, or when its job is told to end: /sleep?for=DURATION.
func sleep(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.FormValue("for"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(d):
		fmt.Fprintf(w, "slept pid=%d build=%s\n", os.Getpid(), build)
	case <-r.Context().Done():
	}
}

// await answers when there is a file, or when its job is told to end: /await?file=FILE.
func await(w http.ResponseWriter, r *http.Request) {
	for {
		if _, err := os.Stat(r.FormValue("file")); err == nil {
			fmt.Fprintf(w, "waited pid=%d build=%s\n", os.Getpid(), build)
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

// dequeue is the work of children with a queue of their own.
func (b *broken) dequeue(ctx context.Context, _ *daemon.Child) error {
	<-ctx.Done()
	return nil
}

// dial opens a connection to a server that closes it at once, keeps its own end for three seconds, and answers:
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
	case <-time.After(3 * time.Second):
		fmt.Fprintln(w, "done")
	case <-r.Context().Done():
	}
}
