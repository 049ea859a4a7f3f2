// Bench is what the benchmarks measure: a daemon and, in the same file, the programs it is measured against. One file has
// one initialisation and one set of text pages, so what is left of a difference is the toolkit's.
//
//	bench [FLAG...]   the daemon
//	bench bare        says that it is ready and accepts on the listener it was given, without the toolkit
//	bench plain       net/http with a goroutine for each request, in one process; says where it listens
//	bench served      net/http on the listener it was given, with as many processors as there are
//	bench lines       answers lines as examples/c10k does, in one process of package net alone; says where it listens
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/reload"
)

// listenFD is where bare finds its listener.
const listenFD = 3

// Set with -ldflags "-X main.build=B", so that there can be two files.
var build = "none"

func main() {
	mode := ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	var err error
	switch mode {
	case "bare":
		err = bare()
	case "plain":
		err = plain()
	case "served":
		err = served()
	case "lines":
		err = lines()
	default:
		err = serveJobs()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func serveJobs() error {
	cfg := daemon.Config{
		Name:       "bench",
		MainLoop:   serve.HTTP(&http.Server{Handler: handler()}),
		AutoReload: reload.Self(), // as daemons have it

		OnClientDisconnect: daemon.KillChild,
	}
	crash := flag.String("crash", "", "`file` that, when it is there, makes every new child crash")
	after := flag.Duration("crash-after", 0, "how long after its start; 0: before it is ready")
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	cfg.ChildInit = func(*daemon.Child) error {
		_, err := os.Stat(*crash)
		switch {
		case err != nil:
		case *after == 0:
			panic("crash")
		default:
			time.AfterFunc(*after, func() { panic("crash") })
		}
		return nil
	}
	return daemon.Run(context.Background(), cfg)
}

func bare() error {
	ln, err := net.FileListener(os.NewFile(listenFD, "listener"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		c.Close()
	}
}

func plain() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	return http.Serve(ln, handler())
}

func served() error {
	runtime.SetDefaultGOMAXPROCS() // as children have it that run several jobs
	ln, err := net.FileListener(os.NewFile(listenFD, "listener"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(ln, handler())
}

func lines() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			lines := bufio.NewReaderSize(c, 128)
			for {
				if _, more, err := lines.ReadLine(); err != nil {
					return
				} else if more {
					continue
				}
				if _, err := fmt.Fprintf(c, "pid=%d slot=%d local=%v foreign=%v\n", os.Getpid(), 0, c.LocalAddr(), c.RemoteAddr()); err != nil {
					return
				}
			}
		}()
	}
}

// handler sleeps for as long as it is asked to: /?for=1s. What is below /work goes on until it is ended.
func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/work", work)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if text := r.FormValue("for"); text != "" {
			d, err := time.ParseDuration(text)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			time.Sleep(d)
		}
		fmt.Fprintln(w, os.Getpid(), build)
	})
	return mux
}
