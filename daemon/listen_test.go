package daemon

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// B2: after a daemon that was killed, its children may hold the address for a moment. Otherwise who has it keeps it, and
// that is told at once.
func TestListenWaitsForOrphans(t *testing.T) {
	for _, unclean := range []bool{true, false} {
		holder, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := holder.Addr().String()
		p := &Parent{cfg: Config{ClientTimeout: time.Minute}, unclean: unclean, log: slog.New(slog.DiscardHandler)}
		left := make(chan struct{})
		let := time.AfterFunc(200*time.Millisecond, func() { holder.Close(); close(left) })
		_, err = p.Listen("tcp", address)
		if want := unclean; (err == nil) != want || !want && !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("after a daemon that was killed: %v; listening ends with %v", unclean, err)
		}
		if unclean {
			<-left
		} else if let.Stop() {
			holder.Close()
		}
		for _, l := range p.listeners {
			l.close()
		}
	}
}
