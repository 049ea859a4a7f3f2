package daemon

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/scoreboard"
)

const (
	// Of the children that have nothing to do, one more than dutyLeast wait for connections and the others rest; when fewer than that
	// are left, one that rests is called. With more of them each connection would wake more in vain; with one alone nobody would be
	// called for those who come while it is stopped, by a debugger or with its cgroup.
	dutyLeast = 2
	dutyMost  = dutyLeast + 1
	// dutyShort is how long a job may take, from when its client has said something, before another child is called because of it.
	// Those who do not rest take shorter ones in turns, and with more of them each would only have the processor less often.
	dutyShort = 2 * time.Millisecond
	// dutyWait is the same for a client who says nothing.
	dutyWait = 20 * time.Millisecond
)

// A roster is what the parent has for children that take one job at a time and are on duty by turns: a bell, an eventfd that is rung for
// those who rest. Who does what stands on the scoreboard.
type roster struct {
	bell int
}

func openRoster(h handedTurns) (*roster, error) {
	if h.Bell > 0 {
		return &roster{h.Bell}, nil
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return &roster{fd}, os.NewSyscallError("eventfd", err)
}

func (r *roster) forChild() (fds []int, number uint64, err error) {
	fd, err := unix.FcntlInt(uintptr(r.bell), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, 0, os.NewSyscallError("fcntl", err)
	}
	return []int{fd}, 1, nil
}

// ring calls one who rests, if anybody does: a child has died, which may have been on duty, or just called.
func (r *roster) ring() { unix.Write(r.bell, once) }

func (r *roster) hand() handedTurns { return handedTurns{Bell: r.bell} }

func (r *roster) close() { unix.Close(r.bell) }

// A duty is a child's part in a roster: whether it waits for connections, or rests until it is called. Who begins a job sees to it that
// enough are left to wait, and goes to rest when it has ended if there are enough without him. So a connection wakes few of many
// that are idle, and under load those who are awake do all the work that they can do.
//
// Whoever is on duty waits in Go's poller: a thread of its own that waits would have the monitor of Go's run-time look after it for a
// while, each time, which are more switches than all else. A shared listener in Go's poller wakes all who wait there (the kernel knows no
// EPOLLEXCLUSIVE of an epoll within another), which is why they are to be few.
//
// The kernel has a hundred epolls of that depth at most for each listener (path_limits, fs/eventpoll.c). Whoever is one too many waits in the
// acceptor's epoll itself, by a thread of his own, where one of several is woken.
type duty struct {
	board *scoreboard.Slot
	bell  int
	rest  int             // an epoll: what ends a rest
	queue int             // the acceptor's epoll
	door  int             // an epoll with that one in it, shut but for those who are on duty: others are not to be woken
	wait  syscall.RawConn // the door, in Go's poller
	on    bool            // has waited for connections; for who has the acceptor's turn
	apart bool            // waits without the door; for who has the turn, too
	load  *load
	timer *time.Timer // while a job runs, as long as too few wait

	// Since epoch, for check; 0: not.
	epoch  time.Time
	began  atomic.Int64 // the job that runs
	heard  atomic.Int64 // something from its client
	streak atomic.Int64 // the first of those that have followed one another without a wait
	armed  atomic.Bool  // the timer runs

	mu   sync.Mutex
	said scoreboard.Duty
}

// newDuty makes the duty of the acceptor with the given epoll and eventfd.
func newDuty(board *scoreboard.Slot, bell, epoll, wake int) (*duty, error) {
	d := &duty{board: board, bell: bell, queue: epoll, epoch: time.Now(), load: newLoad()}
	d.timer = time.AfterFunc(time.Hour, d.check)
	d.timer.Stop()
	door, fd, err := polledEpoll("acceptor")
	if err != nil {
		return nil, err
	}
	d.door = fd
	if err := unix.EpollCtl(d.door, unix.EPOLL_CTL_ADD, epoll, &unix.EpollEvent{}); err != nil {
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	if d.rest, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	for fd, events := range map[int]uint32{wake: unix.EPOLLIN, bell: unix.EPOLLIN | unix.EPOLLEXCLUSIVE} {
		if err := unix.EpollCtl(d.rest, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
			return nil, os.NewSyscallError("epoll_ctl", err)
		}
	}
	d.wait, err = door.SyscallConn()
	return d, err
}

// sleep waits for events of the acceptor's epoll, and rests before that as long as others do. None means that it has been interrupted.
// Who stands behind counts for nothing: he waits only while nobody else does.
func (d *duty) sleep(events []unix.EpollEvent, behind bool) (n int, err error) {
	d.began.Store(0)
	called, enough, least := false, dutyMost, dutyLeast
	if behind {
		enough, least = 1, 1
	}
	if d.board.Duties().On >= enough {
		d.say(scoreboard.DutyOff)
		// Once more: those on duty who have gone before this could be seen have called nobody.
		if d.board.Duties().On >= least {
			if called, err = d.restAWhile(); !called {
				return 0, err
			}
		}
	}
	d.on = true
	if behind {
		d.say(scoreboard.DutyNone)
	} else {
		d.say(scoreboard.DutyOn)
		if called { // in place of others, perhaps: several calls are heard as one
			if all := d.board.Duties(); all.On+1 < dutyLeast && all.Off > 0 {
				d.call()
			}
		}
	}
	if d.apart {
		return epollWait(d.queue, events)
	}
	if err := d.open(); err != nil {
		return 0, err
	}
	err = d.wait.Read(func(uintptr) bool {
		var first [1]unix.EpollEvent
		for epollNow(d.door, first[:]) > 0 { // which shuts it
			if n = epollNow(d.queue, events); n > 0 || d.open() != nil {
				return true
			}
		}
		return false
	})
	return n, err
}

// declines reports whether one who stands behind leaves a connection for which he was woken to somebody else who was woken for it, too.
func (d *duty) declines() bool { return !d.apart && d.board.Duties().On > 0 }

// part takes the acceptor's epoll out of the door, for good.
func (d *duty) part() error {
	d.apart = true
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(d.door, unix.EPOLL_CTL_DEL, d.queue, nil))
}

// open opens the door for once.
func (d *duty) open() error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(d.door, unix.EPOLL_CTL_MOD, d.queue, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLONESHOT,
	}))
}

// epollWait is epoll_wait(2); none means that it has been interrupted.
func epollWait(epoll int, events []unix.EpollEvent) (int, error) {
	n, err := unix.EpollWait(epoll, events, -1)
	if err != nil && err != unix.EINTR {
		return 0, os.NewSyscallError("epoll_wait", err)
	}
	return max(n, 0), nil
}

// restAWhile returns when this child is called, or interrupted.
func (d *duty) restAWhile() (called bool, err error) {
	var events [2]unix.EpollEvent
	for {
		n, err := epollWait(d.rest, events[:])
		if err != nil {
			return false, err
		}
		woken := false
		for _, ev := range events[:n] {
			// A call goes before a waking: nobody else has been woken for it.
			if ev.Fd == int32(d.bell) {
				var b [8]byte
				if _, err := unix.Read(d.bell, b[:]); err == nil {
					return true, nil
				}
			} else {
				woken = true
			}
		}
		if woken {
			return false, nil
		}
	}
}

// leave is for who does not look any more, because a job begins or for another reason.
//
// As long as few do not rest, one is called at once. With two of them for each processor he will be called who finds that his job is not
// over soon, or that a processor is idle while he has one job after the other.
func (d *duty) leave(job bool) {
	d.say(scoreboard.DutyNone)
	waited := d.on
	d.on = false
	if !job {
		d.began.Store(0)
	} else {
		now := int64(time.Since(d.epoch))
		if waited || d.streak.Load() == 0 {
			d.streak.Store(now)
		}
		d.heard.Store(0)
		d.began.Store(now)
	}
	switch all := d.board.Duties(); {
	case all.On >= dutyLeast || all.Off == 0:
	case !job || all.On+all.None < 2*d.load.processors:
		d.call()
	default:
		d.arm()
	}
}

// hear notes that the client of the job that runs has said something.
func (d *duty) hear() {
	if d.heard.Load() == 0 {
		d.heard.Store(int64(time.Since(d.epoch)))
	}
}

// call wakes one who rests.
func (d *duty) call() { writeNow(d.bell, once) }

func (d *duty) arm() {
	if d.armed.CompareAndSwap(false, true) {
		d.timer.Reset(dutyShort)
	}
}

// check calls another one if that is due, again and again until enough wait. It is called when the timer has run out.
func (d *duty) check() {
	d.armed.Store(false) // first: a job that begins from here on sees to it itself
	began, heard, streak := time.Duration(d.began.Load()), time.Duration(d.heard.Load()), time.Duration(d.streak.Load())
	if began == 0 {
		return
	}
	if all := d.board.Duties(); all.On >= dutyLeast || all.Off == 0 {
		return
	}
	now := time.Since(d.epoch)
	if now-began >= dutyWait || heard != 0 && now-heard >= dutyShort || now-streak >= dutyShort && d.load.idle() {
		d.call()
	}
	d.arm()
}

func (d *duty) say(what scoreboard.Duty) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.said != what {
		d.said = what
		d.board.SetDuty(what)
	}
}

// repeat says it once more, after the scoreboard has lost it, and calls for whoever was not called meanwhile.
func (d *duty) repeat() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.board.SetDuty(d.said)
	if d.said == scoreboard.DutyOff {
		d.call()
	}
}
