package web

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/pidfile"
)

// A Daemon is one to be shown.
type Daemon struct {
	Name string // in addresses and as a label of metrics; it need not be the name that the daemon has itself
	Dir  string // its run directory, which need not be there yet
}

const (
	// watched and unwatched are how often boards are read: while a page is open, and while none is.
	watched   = 500 * time.Millisecond
	unwatched = time.Second
	// fresh is how old what a request is answered with may be.
	fresh = 100 * time.Millisecond
	// stopTime is what requests that are being answered have when the server stops.
	stopTime = 3 * time.Second

	maxHeader = 16 << 10
	// maxLooks is how many requests for /status.json look at boards at once.
	maxLooks = 4
)

// A Server shows some daemons. Make it with New.
type Server struct {
	hosts []string
	boot  string
	looks chan struct{} // one in it for each request that looks at boards itself

	mu      sync.Mutex // guards what follows, and the watchers
	all     []*watcher
	version uint64        // of the last look that has found something new
	looked  time.Time     // when it was looked last
	news    chan struct{} // closed when there is a new version
	pages   int           // that are open
	opened  chan struct{} // holds a word when the first page has been opened
	ending  chan struct{} // closed when the server stops
}

// New makes a server for these daemons, of which there is at least one, each with a name of its own. It answers requests
// for a host that is a loopback address, localhost, the address at which the request has come in, or one of hosts: others are
// of somebody who has a name of his own lead here (DNS rebinding).
func New(daemons []Daemon, hosts ...string) (*Server, error) {
	self, err := pidfile.Self()
	if err != nil {
		return nil, err
	}
	if len(daemons) == 0 {
		return nil, errors.New("no daemon is named")
	}
	s := &Server{hosts: hosts, boot: self.BootID, looks: make(chan struct{}, maxLooks), news: make(chan struct{}), opened: make(chan struct{}, 1), ending: make(chan struct{})}
	for _, d := range daemons {
		if err := control.CheckName(d.Name); err != nil {
			return nil, fmt.Errorf("%w; LABEL=DIR gives it one", err)
		}
		if slices.ContainsFunc(s.all, func(w *watcher) bool { return w.name == d.Name }) {
			return nil, fmt.Errorf("two daemons would be called %q: say LABEL=DIR for one of them", d.Name)
		}
		s.all = append(s.all, newWatcher(d, self.BootID))
	}
	return s, nil
}

// Serve answers requests that come in at l, which it closes, until ctx ends; then it returns nil. What goes wrong with single
// connections is logged to errors.
func (s *Server) Serve(ctx context.Context, l net.Listener, errors *log.Logger) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      30 * time.Second, // streams move it on
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          errors,
	}
	srv.RegisterOnShutdown(func() { close(s.ending) })
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var looking sync.WaitGroup
	looking.Go(func() { s.run(ctx) })
	defer looking.Wait()
	defer cancel()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	late, stop := context.WithTimeout(context.Background(), stopTime)
	defer stop()
	if srv.Shutdown(late) != nil {
		srv.Close()
	}
	return nil
}

// run looks at the boards until ctx ends.
func (s *Server) run(ctx context.Context) {
	for {
		s.refresh(0)
		every := unwatched
		if s.openPages() > 0 {
			every = watched
		}
		t := time.NewTimer(every)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-s.opened:
			t.Stop()
		case <-t.C:
		}
	}
}

func (s *Server) openPages() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages
}

// refresh looks at all boards, unless that has been done a moment ago.
func (s *Server) refresh(age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if age > 0 && now.Sub(s.looked) < age {
		return
	}
	s.looked = now
	changed := false
	for _, w := range s.all {
		changed = w.look(now, s.version+1) || changed
	}
	if changed {
		s.version++
		close(s.news)
		s.news = make(chan struct{})
	}
}
