package test

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// A load is a hundred requests a second from twenty clients. Half of them connect anew for each request, half keep their
// connection until the server says that it ends there.
type load struct {
	addr, path string
	stop       chan struct{}
	once       sync.Once
	clients    sync.WaitGroup

	mu       sync.Mutex
	answered int
	kept     int // of those on a connection that had been used before
	failed   []error
	slowest  time.Duration
}

const (
	loadClients = 20
	loadEvery   = 200 * time.Millisecond // of each client
)

func startLoad(url string) *load {
	l := &load{stop: make(chan struct{})}
	l.addr, l.path = split(url)
	for i := range loadClients {
		l.clients.Go(func() { l.client(time.Duration(i)*loadEvery/loadClients, i%2 == 0) })
	}
	return l
}

// client asks at its own moments, which lie evenly between those of the others.
func (l *load) client(offset time.Duration, keep bool) {
	var kept *visit
	defer func() {
		if kept != nil {
			kept.conn.Close()
		}
	}()
	next := time.NewTimer(offset)
	for {
		select {
		case <-l.stop:
			return
		case <-next.C:
			next.Reset(loadEvery)
		}
		begun := time.Now()
		v, err := kept, error(nil)
		used := v != nil
		if kept = nil; !used {
			v, err = visitTo(l.addr)
		}
		if err == nil {
			err = v.send(l.path)
		}
		if err == nil {
			_, err = v.answer()
		}
		l.note(time.Since(begun), err, used)
		switch {
		case v == nil:
		case keep && err == nil && !v.last:
			kept = v
		default:
			v.conn.Close()
		}
	}
}

func (l *load) note(took time.Duration, err error, used bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("at %s: %w", time.Now().UTC().Format("15:04:05.000"), err))
		return
	}
	l.answered++
	if used {
		l.kept++
	}
	l.slowest = max(l.slowest, took)
}

// end stops the clients; each finishes the request that it has begun.
func (l *load) end() {
	l.once.Do(func() { close(l.stop) })
	l.clients.Wait()
}

func (l *load) String() string {
	return fmt.Sprintf("%d answered, %d on kept connections; %d failed; the slowest took %v",
		l.answered, l.kept, len(l.failed), l.slowest)
}

// finish goes on until there are so many answers, ends the load, and returns what was wrong.
func (l *load) finish(minimum int) error {
	eventually(patience, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.answered < minimum && len(l.failed) == 0 {
			return errors.New("not enough yet")
		}
		return nil
	})
	l.end()
	var errs []error
	if len(l.failed) > 0 {
		errs = append(errs, fmt.Errorf("%d requests failed", len(l.failed)))
		errs = append(errs, l.failed[:min(len(l.failed), 10)]...)
	}
	if l.answered < minimum {
		errs = append(errs, fmt.Errorf("only %d requests were answered, want %d or more", l.answered, minimum))
	}
	return errors.Join(errs...)
}
