package test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// footprint is what a process holds that must not grow with what it has done.
type footprint struct {
	descriptors, threads int
	anonymous            int // KiB that are no file's
}

func footprintOf(pid int) (f footprint, err error) {
	fds, err := descriptorsOf(pid)
	if err != nil {
		return f, err
	}
	f.descriptors = len(fds)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return f, err
	}
	if f.threads, err = strconv.Atoi(field(status, "Threads:")); err != nil {
		return f, err
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return f, err
	}
	f.anonymous, err = strconv.Atoi(strings.TrimSuffix(field(maps, "Anonymous:"), " kB"))
	return f, err
}

// What may be more after the last reload than after the tenth. A thread is made whenever all others happen to be in the
// kernel, and kept: how many there are is a matter of luck, but not of the number of reloads. The heap breathes by the same
// again before it is collected; ten goroutines or ten buffers lost in each of a thousand reloads would be far more. Race
// detection keeps a shadow of all memory that was ever touched, so nothing is learnt from it then.
const (
	moreThreads   = 6
	moreAnonymous = 6 << 10 // KiB
)

// B55: a thousand reloads under load leave the parent as it was: no descriptor, thread, zombie or memory more, and no request
// was lost.
func TestThousandReloads(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	reloads := 1000
	if testing.Short() || raceEnabled {
		reloads = 100
	}
	s := openSite(t)
	d, err := s.serve(nil, "broken", "-prefork", "2", "-concurrency", "4", "-soak", "1ms", "-max-draining-generations", "1000",
		"-auto-reload-when", "never")
	if err != nil {
		t.Fatal(err)
	}
	board := openBoard(t, d)
	s.load = startLoad(d.addr + "/")
	var first footprint
	begun := time.Now()
	for i := range reloads {
		if err := kill(d.pid, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(patience); board.generation() != uint64(i)+2 || !board.calm(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("reload %d does not come to its end", i+1)
			}
		}
		if i == 9 {
			if first, err = settled(d, board, 2, func(footprint) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	took := time.Since(begun)
	last, err := settled(d, board, 2, func(f footprint) error {
		var errs []error
		if f.descriptors > first.descriptors {
			errs = append(errs, errors.New("it has more descriptors"))
		}
		if f.threads > first.threads+moreThreads {
			errs = append(errs, errors.New("it has more threads"))
		}
		if f.anonymous > first.anonymous+moreAnonymous && !raceEnabled {
			errs = append(errs, errors.New("it has more memory"))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		fds, _ := descriptorsOf(d.pid)
		t.Errorf("%d reloads: %v\nafter the tenth %+v, after the last %+v, descriptors %v", reloads, err, first, last, fds)
	}
	if err := s.load.finish(100); err != nil {
		t.Error(err)
	}
	t.Logf("%d reloads, %v each; after the tenth %+v, after the last %+v; %v", reloads, took/time.Duration(reloads), first, last, s.load)
	st, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	if st.Status.Died+st.Status.Killed != 0 || !st.Status.ReloadOK {
		t.Errorf("not every child has ended in order: %v", st)
	}
}

// settled returns what the daemon's parent holds when all old children are gone and f has nothing against it.
func settled(d *server, board *board, children int, f func(footprint) error) (now footprint, err error) {
	err = eventually(patience, func() error {
		if n := len(board.look()); n != children {
			return fmt.Errorf("there are %d children", n)
		}
		for _, p := range childrenOf(d.pid) {
			if p.state == 'Z' {
				return fmt.Errorf("%v is a zombie", p)
			}
		}
		var err error
		if now, err = footprintOf(d.pid); err != nil {
			return err
		}
		return f(now)
	})
	return now, err
}
