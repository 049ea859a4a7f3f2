// C10k holds twenty thousand connections open, after Haskell's package of that name: four children with room for five
// thousand each. Every line is answered with who answers it and with both addresses of the connection.
//
//	go run ./examples/c10k -listen 127.0.0.1:7000
//	nc 127.0.0.1 7000
//
// A connection is a job, from the first byte to the last. A child with 5,000 of them takes no more, and the others go on;
// when all are full, the next client waits in the kernel's queue until somebody leaves. The log says how much memory each
// connection takes in a child that is full, before anybody has asked much.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/daemon/serve"
	"github.com/brooddaemon/brood/reload"
)

// spare is how many descriptors a child has for anything but connections.
const spare = 100

// What is known of this child.
var (
	slot  int // its place in the pool
	room  int // for connections
	empty int // bytes of memory that it has without any
	held  atomic.Int64
)

func main() {
	cfg := daemon.Config{
		Name:        "c10k",
		Listen:      []string{"127.0.0.1:7000"},
		MainLoop:    serve.Conns(answer),
		Pool:        daemon.Static,
		Prefork:     4,
		Concurrency: 5000,
		AutoReload:  reload.Self(),
		// A client who has said everything still waits for the last answers.
		HalfClose: daemon.HalfCloseIgnore,

		AfterInit: started,  // c10k's initHook: in the parent, before the first child
		ChildInit: settleIn, // its startedHook: in each child, before the first connection
		Exit:      ended,    // its exitHook: in the parent, when all is over
	}
	cfg.Flags(flag.CommandLine)
	flag.Parse()
	// More than systems usually give. Root raises the limit with that; others can go as far as the hard one, and Run returns
	// an error if it is too low. What -rlimits says stands behind this, and counts.
	cfg.Rlimits = append([]string{fmt.Sprintf("nofile=%d", cfg.Concurrency+spare)}, cfg.Rlimits...)
	if err := daemon.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, "c10k:", err)
		os.Exit(1)
	}
}

func started(p *daemon.Parent) error {
	p.Logger().Info("addresses are bound, children come next", "parent", os.Getpid())
	return nil
}

func settleIn(c *daemon.Child) error {
	slot, room = c.Slot(), c.Concurrency()
	var err error
	empty, err = resident()
	return err
}

// resident returns how many bytes of this process are in memory. Of what the kernel has for each connection it tells nothing.
func resident() (int, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var all, pages int
	_, err = fmt.Sscan(string(text), &all, &pages)
	return pages * os.Getpagesize(), err
}

func ended(err error) {
	if err == nil {
		fmt.Fprintln(os.Stderr, "everybody has gone")
	}
}

// answer has as little on its stack and in its buffer as it can: all of it is there 20,000 times.
func answer(ctx context.Context, conn net.Conn) {
	// When the daemon stops, or a child of old code has to go, whoever says nothing is not waited for to the end.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer held.Add(-1)
	if n := int(held.Add(1)); n == room {
		if now, err := resident(); err == nil {
			fmt.Printf("full: %d connections, %.1f KiB of memory for each\n", n, float64(now-empty)/1024/float64(n))
		}
	}
	lines := bufio.NewReaderSize(conn, 128)
	for {
		_, more, err := lines.ReadLine()
		if err != nil {
			return
		}
		if more { // a long line is one all the same
			continue
		}
		if _, err := fmt.Fprintf(conn, "pid=%d slot=%d local=%v foreign=%v\n", os.Getpid(), slot, conn.LocalAddr(), conn.RemoteAddr()); err != nil {
			return
		}
	}
}
