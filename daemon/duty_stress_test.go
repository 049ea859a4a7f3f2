package daemon

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/scoreboard"
)

// A crew has acceptors that are on duty by turns, as in children, but all in this process.
type crew struct {
	t      *testing.T
	board  *scoreboard.Board
	roster *roster
	addr   string
	hands  []*hand
	wg     sync.WaitGroup
}

// A hand is one of them.
type hand struct {
	*Child
	job func(fd int) // what it does with a connection, which the hand closes
}

// newCrew returns so many hands, who do job with each connection once begin is called.
func newCrew(t *testing.T, n int, job func(h *hand, fd int)) *crew {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ln, err := bind("tcp", "127.0.0.1:0", time.Minute)
	must(err)
	path := filepath.Join(t.TempDir(), "scoreboard")
	board, err := scoreboard.Create(path, scoreboard.Identity{}, n)
	must(err)
	r, err := openRoster(handedTurns{})
	must(err)
	w := &crew{t: t, board: board, roster: r, addr: ln.addr}
	for i := range n {
		must(board.Bear(i, scoreboard.Serve, 1, "", time.Now()))
		must(board.SetPhase(i, scoreboard.PhaseServing))
		slot, err := scoreboard.Attach(board.FD(), i)
		must(err)
		fd, err := unix.FcntlInt(uintptr(ln.fd), unix.F_DUPFD_CLOEXEC, 3)
		must(err)
		l, err := adoptListener(fd, listening{})
		must(err)
		l.first = l
		fds, number, err := r.forChild()
		must(err)
		h := &hand{Child: &Child{cfg: Config{Concurrency: 1}, board: slot, draining: make(chan struct{})}}
		h.acceptor, err = h.newAcceptor([]*childListener{l}, turnTaker{mode: SerializeExclusive, number: number, fd: fds[0]})
		must(err)
		h.job = func(fd int) { job(h, fd) }
		w.hands = append(w.hands, h)
	}
	ln.close()
	t.Cleanup(func() {
		for _, h := range w.hands {
			close(h.draining)
			h.acceptor.close()
		}
		w.wg.Wait()
		for _, h := range w.hands {
			for _, fd := range []int{h.acceptor.epoll, h.acceptor.wake, h.acceptor.duty.rest, h.acceptor.duty.bell} {
				unix.Close(fd)
			}
			h.acceptor.reserve.spend(unix.EMFILE)
			h.board.Detach()
		}
		r.close()
		board.Remove()
	})
	return w
}

// begin has all of them accept.
func (w *crew) begin() {
	for _, h := range w.hands {
		w.wg.Go(h.serve)
	}
}

// serve does what a child does with one job at a time.
func (h *hand) serve() {
	for {
		acc, err := h.acceptor.accept(context.Background())
		if err == errYield {
			continue
		}
		if err != nil {
			return
		}
		h.job(acc.fd)
		unix.Close(acc.fd)
	}
}

// duties counts those who wait and those who rest.
func (w *crew) duties() (all scoreboard.Duties) {
	for _, h := range w.hands {
		h.acceptor.duty.mu.Lock()
		switch h.acceptor.duty.said {
		case scoreboard.DutyOn:
			all.On++
		case scoreboard.DutyOff:
			all.Off++
		default:
			all.None++
		}
		h.acceptor.duty.mu.Unlock()
	}
	return all
}

// becomes waits until the hands do what is wanted.
func (w *crew) becomes(what string, is func(scoreboard.Duties) bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(w.duties()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: %+v", what, w.duties())
		}
	}
}

// rested waits until few wait and the others rest.
func (w *crew) rested() {
	w.t.Helper()
	w.becomes("nobody rests", func(all scoreboard.Duties) bool { return all.On >= dutyMost && all.On+all.Off == len(w.hands) })
}

// ask is a client, who is to be answered soon.
func (w *crew) ask() error {
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = io.ReadAll(conn)
	return err
}

// allTake has as many clients as there are hands come at once, who leave when all of them are served.
func (w *crew) allTake(gate *gate) {
	w.t.Helper()
	gate.shut()
	var clients sync.WaitGroup
	for range w.hands {
		clients.Go(func() {
			if err := w.ask(); err != nil {
				w.t.Error(err)
			}
		})
	}
	w.becomes("somebody does not work", func(scoreboard.Duties) bool { return gate.waiting() == len(w.hands) })
	gate.open()
	clients.Wait()
}

// A gate holds up jobs.
type gate struct {
	mu     sync.Mutex
	closed chan struct{}
	n      int
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.n = make(chan struct{}), 0
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

func (g *gate) pass() {
	g.mu.Lock()
	closed := g.closed
	g.n++
	g.mu.Unlock()
	if closed != nil {
		<-closed
	}
}

// The kernel has a hundred epolls within epolls within epolls at most for each listener. Whoever is one too many works nevertheless, also
// when he has taken his listeners out and has put them back.
func TestDutyOfMany(t *testing.T) {
	g := &gate{}
	w := newCrew(t, 120, func(*hand, int) { g.pass() })
	t.Cleanup(g.open)
	w.begin()
	w.allTake(g)
	for _, h := range w.hands {
		if err := h.acceptor.pause(true); err != nil {
			t.Fatal(err)
		}
	}
	for i := range w.hands { // in another order
		if err := w.hands[len(w.hands)-1-i].acceptor.pause(false); err != nil {
			t.Fatal(err)
		}
	}
	w.allTake(g)
}

// Several calls at once are heard as one; yet more than one waits as long as others rest.
func TestDutyCalledTwice(t *testing.T) {
	g := &gate{}
	w := newCrew(t, 8, func(*hand, int) { g.pass() })
	t.Cleanup(g.open)
	w.begin()
	for range 50 {
		w.rested()
		g.shut()
		var clients sync.WaitGroup
		for range dutyMost {
			clients.Go(func() {
				if err := w.ask(); err != nil {
					t.Error(err)
				}
			})
		}
		w.becomes("one waits alone", func(all scoreboard.Duties) bool { return g.waiting() == dutyMost && all.On >= dutyLeast })
		g.open()
		clients.Wait()
	}
}

// Whoever has left it to a timer to call another one, and has nothing to do with connections before it runs out, calls at once.
func TestDutyPausedInTheJob(t *testing.T) {
	w := newCrew(t, 8, func(h *hand, fd int) {
		if err := h.acceptor.pause(true); err != nil {
			t.Error(err)
		}
	})
	for _, h := range w.hands {
		h.acceptor.duty.load.processors = 0 // so that it is left to the timer
	}
	w.begin()
	w.rested()
	for i := range w.hands {
		if err := w.ask(); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
}

// Nobody waits for an answer while somebody has nothing to do, whatever the hands do and however they are told to stand behind, to
// pause, or to go on.
func TestDutyStress(t *testing.T) {
	g := &gate{}
	w := newCrew(t, 12, func(h *hand, fd int) {
		g.pass()
		if d := rand.IntN(4); d < 3 {
			time.Sleep(time.Duration(d*rand.IntN(2000)) * time.Microsecond)
		}
	})
	t.Cleanup(g.open)
	for i, h := range w.hands {
		h.acceptor.duty.load.processors = i % 4
	}
	w.begin()
	stop := make(chan struct{})
	var all sync.WaitGroup
	var asked atomic.Int64
	for range 6 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				begun := time.Now()
				if err := w.ask(); err != nil {
					t.Errorf("after %v: %v; %+v", time.Since(begun), err, w.duties())
					return
				}
				asked.Add(1)
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			}
		})
	}
	for _, h := range w.hands[1:] { // one is always there
		all.Go(func() {
			for {
				var err error
				switch rand.IntN(4) {
				case 0:
					err = h.acceptor.pause(true)
				case 1:
					err = h.acceptor.yield(rand.IntN(2) == 0)
				default:
					err = h.acceptor.pause(false)
				}
				if err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					h.acceptor.pause(false)
					h.acceptor.yield(false)
					return
				case <-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond):
				}
			}
		})
	}
	long := 3 * time.Second
	if testing.Short() {
		long = 500 * time.Millisecond
	}
	time.Sleep(long)
	close(stop)
	all.Wait()
	w.allTake(g)
	t.Logf("%d clients", asked.Load())
}
