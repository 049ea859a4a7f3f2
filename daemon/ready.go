package daemon

import (
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
)

// Ready tells the parent that this child can take work. The first Do, Accept or Conns says it too; call it in a main
// loop that waits for work in another way.
func (c *Child) Ready() {
	c.ready.Do(func() {
		c.mu.Lock()
		c.isReady = true
		if c.jobs.n == 0 {
			c.board.SetState(c.rest(), time.Now())
		}
		c.mu.Unlock()
		c.tell(control.Message{Kind: control.Ready})
	})
}

// ifUnready calls end, which ends the process, if this child cannot take work yet; nor will it meanwhile.
func (c *Child) ifUnready(end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isReady {
		end()
	}
}

// catchSignals lets SIGTERM drain this child: service managers send it to every process of a daemon when it is to stop, and
// jobs are to be finished then. The second one ends it, and so does one that comes before it can take work. What else an
// operator may send to every process of that name is for the parent, and no child may end or stop by it.
func (c *Child) catchSignals() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE)
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	<-term
	signal.Reset(unix.SIGTERM)
	c.ifUnready(func() {
		unix.Kill(os.Getpid(), unix.SIGTERM)
		select {}
	})
	c.tell(control.Message{Kind: control.Spent, Text: "was sent SIGTERM"})
	c.drain(fmt.Errorf("%w: signal SIGTERM", ErrDraining))
}
