package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brooddaemon/brood/daemon"
	"github.com/brooddaemon/brood/scoreboard"
)

// spooling works on a queue, one item for each gate that is opened, in children of its own.
var spooling = scenario("spooling", func() daemon.Config {
	cfg := everywhere(lineLoop)
	cfg.Dequeue = daemon.Dequeue{
		MainLoop: func(ctx context.Context, c *daemon.Child) error {
			note(event{What: "queue", Slot: c.Slot()})
			if l, err := c.Listeners(); err != nil || len(l) > 0 {
				note(event{What: "wrong", Text: "it has listeners"})
			}
			err := c.Do(ctx, "item", func(ctx context.Context) error {
				awaitGate(ctx, "item")
				return nil
			})
			if _, ferr := os.Stat(sitePath("gate-fail")); ferr == nil {
				return errors.New("no luck")
			}
			return err
		},
		Max: 2, Every: 100 * time.Millisecond,
	}
	return cfg
})

func dequeueing(b *scoreboard.Snapshot) (cs []scoreboard.Child) {
	for _, c := range b.Children {
		if c.Kind == scoreboard.Dequeue && c.State == scoreboard.Working {
			cs = append(cs, c)
		}
	}
	return cs
}

// A second kind of child stands beside those that serve, in its own number, and comes again every so often.
func TestDequeueChildren(t *testing.T) {
	t.Parallel()
	s := start(t, spooling, "BROOD_PREFORK=2")
	b := s.await("two at work", func(b *scoreboard.Snapshot) bool { return len(dequeueing(b)) == 2 })
	if b.Want != 2 || len(b.Children) != 4 {
		t.Errorf("%d children, %d wanted", len(b.Children), b.Want)
	}
	for _, c := range dequeueing(b) {
		if c.Text != "item" || c.Cause != "dequeue, every 100ms" {
			t.Errorf("%+v", c)
		}
	}
	// The others serve meanwhile, and only they do.
	for i := range 20 {
		pid, _ := askWho(t, s.dial("tcp4"), fmt.Sprint("who ", i))
		if c := s.child(pid); c.Kind != scoreboard.Serve {
			t.Errorf("child %+v has answered", c)
		}
	}
	s.open("item")
	eventually(t, "more of them", func() bool { return len(s.eventsOf("queue", "")) >= 6 })
	if died := s.board().Died; died != 0 {
		t.Errorf("%d have died", died)
	}
	if es := s.eventsOf("wrong", ""); len(es) > 0 {
		t.Error(es[0].Text)
	}
}

// What works on a queue is drained by a reload and a stop: an item is finished.
func TestDequeueChildrenReload(t *testing.T) {
	t.Parallel()
	s := start(t, spooling, "BROOD_PREFORK=1", "BROOD_DEQUEUE_EVERY=1h", "BROOD_STOP_TIMEOUT=20s")
	s.await("two at work", func(b *scoreboard.Snapshot) bool { return len(dequeueing(b)) == 2 })
	s.reload()
	s.await("two of the old code that finish", func(b *scoreboard.Snapshot) bool {
		old, young := 0, 0
		for _, c := range b.Children {
			switch {
			case c.Kind != scoreboard.Dequeue:
			case c.Generation == 1 && c.State == scoreboard.Draining:
				old++
			case c.Generation == 2:
				young++
			}
		}
		if old > 0 && young > 0 {
			t.Errorf("%d of the old and %d of the new code", old, young)
		}
		return old == 2 && young == 0
	})
	s.open("item")
	s.await("two of the new code", func(b *scoreboard.Snapshot) bool {
		return len(dequeueing(b)) == 2 || len(s.eventsOf("queue", "")) >= 4
	})
	s.signal(syscall.SIGTERM, s.cmd.Process.Pid)
	if !s.over(patience) || !s.cmd.ProcessState.Success() {
		t.Errorf("the parent: %v", s.cmd.ProcessState)
	}
	if log := s.log(); strings.Contains(log, "killing child") {
		t.Error("somebody was killed")
	}
}

// One that fails says so, is tried less often, and disturbs nobody.
func TestDequeueChildrenFail(t *testing.T) {
	t.Parallel()
	s := start(t, spooling, "BROOD_PREFORK=1", "BROOD_DEQUEUE_MAX=1")
	s.open("fail")
	s.open("item")
	eventually(t, "several failures", func() bool {
		return strings.Contains(s.log(), `msg="dequeue child failed"`) && len(s.eventsOf("queue", "")) >= 3
	})
	if !strings.Contains(s.log(), "main loop failed: no luck") {
		t.Error("the log does not say why")
	}
	if pid, _ := askWho(t, s.dial("tcp4"), "who a"); s.child(pid).Kind != scoreboard.Serve {
		t.Error("nobody serves")
	}
}
