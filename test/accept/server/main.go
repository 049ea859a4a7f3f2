// Server answers requests in several processes, started and fed in one of these ways:
//
//	server brood [FLAG...]        a daemon of this toolkit
//	server prefork ADDR           fasthttp's prefork: Go's poller on a socket that all share
//	server reuseport ADDR         fasthttp's prefork with SO_REUSEPORT: a socket for each
//	server flock ADDR             as prefork, but who accepts has the lock on a file
//
// GOMAXPROCS is the number of processes in those that are no daemon, as fasthttp has it.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/prefork"
	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/daemon"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "server: want brood, prefork, reuseport or flock")
		os.Exit(2)
	}
	var err error
	switch mode := os.Args[1]; mode {
	case "brood":
		err = brood(os.Args[2:])
	default:
		err = other(mode, os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

// handle answers at once, or after the time that the path asks for: /200ms.
func handle(ctx *fasthttp.RequestCtx) {
	if d, err := time.ParseDuration(string(ctx.Path()[1:])); err == nil {
		time.Sleep(d)
	}
	ctx.SetConnectionClose()
	ctx.WriteString("ok\n")
}

func newServer() *fasthttp.Server { return &fasthttp.Server{Handler: handle} }

func brood(args []string) error {
	cfg := daemon.Config{Name: "accept", MainLoop: func(_ context.Context, c *daemon.Child) error {
		ls, err := c.Listeners()
		if err != nil {
			return err
		}
		err = newServer().Serve(ls[0])
		return err
	}}
	fs := flag.NewFlagSet("brood", flag.ExitOnError)
	cfg.Flags(fs)
	fs.Parse(args)
	return daemon.Run(context.Background(), cfg)
}

func other(mode, addr string) error {
	s := newServer()
	p := prefork.New(s)
	p.OnMasterDeath = func() { os.Exit(0) }
	switch mode {
	case "prefork":
	case "reuseport":
		p.Reuseport = true
	case "flock":
		p.ServeFunc = func(ln net.Listener) error {
			fd, err := unix.Open(os.Args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0) // the lock belongs to what this process has opened
			if err != nil {
				return err
			}
			return s.Serve(&locked{ln, fd})
		}
	default:
		return fmt.Errorf("mode %q is not known", mode)
	}
	return p.ListenAndServe(addr)
}

// A locked listener accepts while it has the lock.
type locked struct {
	net.Listener
	fd int
}

func (l *locked) Accept() (net.Conn, error) {
	if err := unix.Flock(l.fd, unix.LOCK_EX); err != nil {
		return nil, err
	}
	defer unix.Flock(l.fd, unix.LOCK_UN)
	return l.Listener.Accept()
}
