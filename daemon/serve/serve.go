// Package serve has main loops for the two most common kinds of work: a function for each connection, and a net/http
// server.
package serve

import (
	"context"
	"net"
	"sync"

	"github.com/brooddaemon/brood/daemon"
)

// Conns returns a main loop that calls fn for each connection, at most Concurrency at once. The connection is closed
// when fn returns.
//
// ctx is the connection's own: it ends when the client has left and the daemon's policy is to cancel, not when the
// child drains. fn is called on different goroutines if Concurrency is more than 1.
func Conns(fn func(ctx context.Context, conn net.Conn)) func(context.Context, *daemon.Child) error {
	return func(ctx context.Context, c *daemon.Child) error {
		var wg sync.WaitGroup
		var next func()
		next = func() {
			for conn := range c.Conns(ctx) {
				if c.Concurrency() == 1 {
					fn(conn.Context(), conn)
					continue
				}
				// Only one waits for a connection, or a few, however many there may be: the stacks of thousands who wait cost
				// more than the work of a few.
				wg.Go(next)
				fn(conn.Context(), conn)
				return
			}
		}
		for range c.Waiters() {
			wg.Go(next)
		}
		wg.Wait()
		return nil
	}
}
