package reload

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An alarm is a timer for long waits that is a descriptor (timerfd_create(2)). While nothing else goes on a Go timer costs
// some 35 wake-ups each time: the poller's timeout is late by the kernel's slack of a thousandth, and the runtime's monitor,
// which is on time, naps in short steps until somebody has taken the timer that it sees due.
type alarm struct {
	f *os.File
	C chan struct{}
}

// newAlarm returns nil if the kernel has no such timer to give: a Go timer does as well.
func newAlarm() *alarm {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil
	}
	a := &alarm{os.NewFile(uintptr(fd), "timer"), make(chan struct{}, 1)}
	go func() {
		var expirations [8]byte
		for {
			if _, err := a.f.Read(expirations[:]); err != nil {
				return // closed
			}
			select {
			case a.C <- struct{}{}:
			default:
			}
		}
	}()
	return a
}

// set makes the alarm go off once after d, which is more than 0, and forgets an earlier one. It reports whether it will.
func (a *alarm) set(d time.Duration) bool {
	if a == nil {
		return false
	}
	rc, err := a.f.SyscallConn()
	if err != nil {
		return false
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	cerr := rc.Control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), 0, &spec, nil) })
	return cerr == nil && err == nil
}

// fired is the channel on which it goes off; nil for none.
func (a *alarm) fired() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.C
}

func (a *alarm) close() {
	if a != nil {
		a.f.Close()
	}
}
