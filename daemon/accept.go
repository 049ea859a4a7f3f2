package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// An acceptor waits for connections on all listeners of a child.
//
// It waits in an epoll of its own with EPOLLEXCLUSIVE, unless Config.Serialize says none: Go's poller registers a shared
// listener without it and wakes every idle child for each connection (golang/go#17249). A bare blocking accept could not be
// woken for draining, so an eventfd stands beside the listeners. In modes with a lock it waits only while it has that, and where there
// is a roster only while it is on duty.
type acceptor struct {
	c         *Child
	epoll     int
	wake      int
	listeners []*childListener
	turn      chan struct{}           // who has it waits, or changes what is waited for; one at a time
	changing  atomic.Int32            // goroutines that want the turn to change something
	shut      map[*childListener]bool // turn; closed for good
	paused    bool                    // turn
	behind    bool                    // turn; others are to come first
	next      int                     // turn
	mode      Serialize
	lock      *turnLock    // nil: all children wait at once
	duty      *duty        // nil: whoever has nothing to do waits
	queues    map[int]bool // turn; those that the parent has told this child to wait on
	reserve   reserve
}

func (c *Child) newAcceptor(ls []*childListener, t turnTaker) (*acceptor, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	a := &acceptor{c: c, epoll: ep, listeners: ls, turn: make(chan struct{}, 1), shut: map[*childListener]bool{}, mode: t.mode}
	if a.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, a.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	if a.lock, err = t.lock(c.complain); err == nil && a.lock != nil {
		err = a.lock.interruptible(a.wake)
	}
	if err == nil && t.roster() && c.cfg.Concurrency == 1 {
		a.duty, err = newDuty(c.board, t.fd, ep, a.wake)
	}
	if err != nil {
		return nil, err
	}
	t.divide(ls)
	return a, a.addAll()
}

// addAll makes all listeners be waited for that are to be. The turn is held, or nobody waits yet.
func (a *acceptor) addAll() error {
	for i, l := range a.listeners {
		if a.shut[l] || l.queue >= 0 && !a.queues[l.queue] {
			continue
		}
		if err := a.add(i); err != nil {
			return err
		}
	}
	return nil
}

// delAll takes all listeners out of the epoll, for a while. They are shared, so their registrations would outlive their
// descriptors. The turn is held.
func (a *acceptor) delAll() {
	for _, l := range a.listeners {
		if !a.shut[l] {
			unix.EpollCtl(a.epoll, unix.EPOLL_CTL_DEL, l.fd, nil)
		}
	}
}

func (a *acceptor) add(i int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(i)}
	if a.mode == SerializeNone {
		ev.Events = unix.EPOLLIN
	}
	err := unix.EpollCtl(a.epoll, unix.EPOLL_CTL_ADD, a.listeners[i].fd, &ev)
	if err == unix.EINVAL && a.duty != nil && !a.duty.apart {
		if err := a.duty.part(); err != nil {
			return err
		}
		err = unix.EpollCtl(a.epoll, unix.EPOLL_CTL_ADD, a.listeners[i].fd, &ev)
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// errYield is returned by accept when somebody has work that needs no connection, or wants the turn.
var errYield = errors.New("somebody else comes first")

// An accepted is a connection as accept(2) gives it. The peer's address comes with it: getpeername(2) no longer knows it
// if the client has reset the connection by now.
type accepted struct {
	fd   int
	from *childListener
	peer netip.AddrPort // of IP
	idle bool           // nothing else has been done before it came
}

// accept waits for a connection, for which a token has been taken.
func (a *acceptor) accept(ctx context.Context) (_ accepted, err error) {
	select {
	case a.turn <- struct{}{}: // most often, and a select of several cases costs ten times as much
	default:
		select {
		case a.turn <- struct{}{}:
		case <-a.c.draining:
			return accepted{}, net.ErrClosed
		case <-ctx.Done():
			return accepted{}, ctx.Err()
		}
	}
	defer func() { <-a.turn }()
	if a.duty != nil {
		defer func() { a.duty.leave(err == nil) }()
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, a.interrupt)
		defer stop()
	}
	events := make([]unix.EpollEvent, 1+len(a.listeners))
	locked, fresh := false, true
	unlock := func() {
		if locked {
			locked = false
			a.lock.lock.give()
		}
	}
	defer unlock()
	for {
		if a.c.isDraining() {
			return accepted{}, net.ErrClosed
		}
		if err := ctx.Err(); err != nil {
			a.calm()
			return accepted{}, err
		}
		if a.c.claims.Load() > 0 || a.changing.Load() > 0 {
			return accepted{}, errYield
		}
		if !a.reserve.fill(a.wake) {
			unlock()
			a.rest(ctx, unix.EMFILE)
			continue
		}
		if a.lock != nil && !locked && a.waits() {
			ok, err := a.lock.take()
			if err != nil {
				return accepted{}, err
			}
			if locked = ok; !ok {
				a.woken(ctx)
				continue
			}
		}
		// One that takes many at once leaves them to others who sleep.
		if fresh && a.c.cfg.Concurrency == 1 && !a.behind && a.waits() {
			if acc, ok := a.grab(); ok {
				return acc, nil
			}
		}
		fresh = false
		n, err := a.sleep(events)
		if err != nil {
			return accepted{}, err
		}
		// A connection goes before a waking: nobody else has been woken for it, so it would lie until the next one comes.
		i := slices.IndexFunc(events[:n], func(ev unix.EpollEvent) bool { return ev.Fd >= 0 })
		if i < 0 {
			a.woken(ctx)
			continue
		}
		if a.behind && a.duty != nil && a.duty.declines() {
			continue
		}
		l := a.listeners[events[i].Fd]
		fd, peer, err := acceptNow(l.fd)
		if a.reserve.spend(err) {
			fd, peer, err = acceptNow(l.fd)
		}
		if short(err) {
			unlock() // then somebody else may take it
			a.rest(ctx, err)
			// Once more, also when this child is to leave: nobody else was woken for this connection.
			fd, peer, err = acceptNow(l.fd)
		}
		switch {
		case err == nil:
			return accepted{fd, l.first, peer, true}, nil
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EBADF), errors.Is(err, unix.ENOTSOCK):
			return accepted{}, os.NewSyscallError("accept4", err)
		}
		// Anything else concerns one connection that came to nothing (accept(2), "Error handling").
	}
}

// sleep waits for a connection or an interruption, which may be none.
func (a *acceptor) sleep(events []unix.EpollEvent) (int, error) {
	if a.duty != nil && a.waits() {
		return a.duty.sleep(events, a.behind)
	}
	if a.duty != nil {
		a.duty.leave(false)
	}
	return epollWait(a.epoll, events)
}

// grab takes a connection that is there already. Somebody who sleeps has been woken for it, and will find none.
func (a *acceptor) grab() (accepted, bool) {
	for range a.listeners {
		a.next = (a.next + 1) % len(a.listeners)
		l := a.listeners[a.next]
		if a.shut[l] || l.queue >= 0 && !a.queues[l.queue] {
			continue
		}
		if fd, peer, err := acceptNow(l.fd); err == nil {
			return accepted{fd, l.first, peer, false}, true
		}
	}
	return accepted{}, false
}

// waits reports whether there is a listener to wait for. The turn is held.
func (a *acceptor) waits() bool { return !a.paused && len(a.shut) < len(a.listeners) }

// woken is what follows when somebody has interrupted: either there is a reason, which the head of accept's loop finds, or it
// was for an earlier waiter.
func (a *acceptor) woken(ctx context.Context) {
	if !a.c.isDraining() && ctx.Err() == nil {
		a.calm()
	}
}

// interrupt wakes who waits.
func (a *acceptor) interrupt() { unix.Write(a.wake, once) }

// calm takes the waking back.
func (a *acceptor) calm() {
	var b [8]byte
	unix.Read(a.wake, b[:])
}

// alone calls f while nobody waits. A listener that was taken out under somebody who has just been woken for it would
// leave that connection to nobody: who waits in other children has not been woken.
func (a *acceptor) alone(f func() error) error {
	a.changing.Add(1)
	a.interrupt()
	a.turn <- struct{}{}
	a.changing.Add(-1)
	defer func() { <-a.turn }()
	return f()
}

// close ends all waiting and closes the listeners. The child is draining; this is called once.
func (a *acceptor) close() {
	a.alone(func() error {
		for _, l := range a.listeners {
			a.take(l)
			unix.Close(l.fd)
		}
		return nil
	})
}

// remove makes a listener be waited for no more.
func (a *acceptor) remove(l *childListener) {
	a.alone(func() error {
		for _, o := range a.listeners {
			if o.first == l {
				a.take(o)
			}
		}
		return nil
	})
}

// take takes a listener out of the epoll for good. It is shared, so its registration would outlive the descriptor.
func (a *acceptor) take(l *childListener) {
	if !a.shut[l] {
		a.shut[l] = true
		unix.EpollCtl(a.epoll, unix.EPOLL_CTL_DEL, l.fd, nil)
	}
}

// pause takes all listeners out of the epoll, or puts them back. What waits in their queues goes to other children, or
// is found when they are back.
func (a *acceptor) pause(paused bool) error {
	return a.alone(func() error {
		if a.paused == paused {
			return nil
		}
		a.paused = paused
		if paused {
			a.delAll()
			return nil
		}
		return a.addAll()
	})
}

// yield takes all listeners out of the epoll and puts them back, so that those who wait in other children for a connection
// come first: the kernel wakes who was registered first (add_wait_queue_exclusive, kernel/sched/wait.c). Where there is a roster, those
// who stand behind wait while nobody else does. If behind is false that is over.
func (a *acceptor) yield(behind bool) error {
	return a.alone(func() error {
		a.behind = behind
		if a.paused {
			return nil
		}
		a.delAll()
		return a.addAll()
	})
}
