package daemon

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/netmon"
)

// A HalfClose says what it means that a client has sent FIN: he will send no more, but may still want the answer. On TCP
// that looks the same whether he has closed his connection or only his half of it.
type HalfClose string

const (
	// HalfCloseGone takes a FIN for the client's leaving.
	HalfCloseGone HalfClose = "gone"
	// HalfCloseConfirm asks Config.ConfirmGone whether a client who has sent FIN has left. Without one the kernel is asked,
	// again and again: it knows of clients on this host, and of others no more than HalfCloseIgnore waits for.
	HalfCloseConfirm HalfClose = "confirm"
	// HalfCloseIgnore waits for more than a FIN: for a reset, or for silence. On a Unix socket the kernel tells when the client
	// has closed the whole of it, which counts as well.
	HalfCloseIgnore HalfClose = "ignore"
)

// confirmWait is how long ConfirmGone may take. An answer that comes later is not heard.
const confirmWait = 5 * time.Second

// completeHalfClose fills in the default.
func (cfg *Config) completeHalfClose() error {
	if cfg.HalfClose == "" {
		cfg.HalfClose = HalfCloseGone
		if cfg.ConfirmGone != nil {
			cfg.HalfClose = HalfCloseConfirm
		}
	}
	switch cfg.HalfClose {
	case HalfCloseGone, HalfCloseConfirm, HalfCloseIgnore:
		return nil
	}
	return fmt.Errorf("field HalfClose is %q: want %q, %q or %q", cfg.HalfClose, HalfCloseGone, HalfCloseConfirm, HalfCloseIgnore)
}

// HalfClose returns what Config.HalfClose says, or its default.
func (c *Child) HalfClose() HalfClose { return c.cfg.HalfClose }

// notFIN are the events that tell more than a FIN: the whole connection has come to its end.
const notFIN = unix.EPOLLHUP | unix.EPOLLERR

// skips reports whether the client of an accepted connection has left already. A Unix socket that its client has closed
// may still hold all he had to say, so under HalfCloseIgnore it is served.
func (c *Child) skips(fd int) bool {
	events := hangUps(fd)
	if c.cfg.HalfClose == HalfCloseIgnore {
		return events&unix.EPOLLERR != 0
	}
	return events&notFIN != 0 || events&unix.EPOLLRDHUP != 0 && c.cfg.HalfClose == HalfCloseGone
}

// fin acts on a client's FIN as the configuration wants.
func (e *eye) fin(conn *Conn, how How) {
	switch e.c.cfg.HalfClose {
	case HalfCloseGone:
		e.report(conn, how)
	case HalfCloseConfirm:
		e.confirm(conn, how)
	}
}

// confirm finds out whether the client of the job that runs on conn has left, once for each job. It does not wait for that.
func (e *eye) confirm(conn *Conn, how How) {
	j := conn.running()
	if j == nil {
		return
	}
	e.c.mu.Lock()
	known := j.asked || j.reported || j.answered
	j.asked = j.asked || !j.answered
	e.c.mu.Unlock()
	if known {
		return
	}
	if e.c.cfg.ConfirmGone == nil {
		go e.askKernel(j, conn, how)
		return
	}
	go e.askProgram(j, conn, how)
}

// askProgram asks ConfirmGone.
func (e *eye) askProgram(j *Job, conn *Conn, how How) {
	answer := make(chan bool, 1)
	go func() {
		gone := false
		defer func() { answer <- gone }() // also if it calls runtime.Goexit
		if err := guard("ConfirmGone", func() error { gone = e.c.cfg.ConfirmGone(conn); return nil }); err != nil {
			e.c.complain("%v", err)
		}
	}()
	late := time.NewTimer(confirmWait)
	defer late.Stop()
	select {
	case gone := <-answer:
		if gone {
			e.reportJob(j, how)
		}
	case <-late.C:
		e.c.complain("ConfirmGone has not answered within %v: the client counts as there", confirmWait)
	case <-j.ctx.Done():
	}
}

// askKernelEvery is how often the kernel is asked about a client who waits for his answer.
const askKernelEvery = 100 * time.Millisecond

// askKernel looks for the client's own end of a TCP connection, until it is gone or the job is over. The end of a client on
// another host is not there to be seen: his reset or his silence will tell.
func (e *eye) askKernel(j *Job, conn *Conn, how How) {
	if !conn.tcp {
		return // the kernel has told that he waits
	}
	diag := netmon.NewDiag()
	defer diag.Close()
	local, foreign, _ := conn.endpoints()
	lost := netmon.Lost{Proto: "tcp", Local: local, Foreign: foreign, How: how}
	tick := time.NewTicker(askKernelEvery)
	defer tick.Stop()
	for {
		switch got, err := diag.Confirm(lost); {
		case err != nil:
			e.c.complain("cannot ask the kernel about a client who has sent FIN: he counts as there: %v", err)
			return
		case got == netmon.Closed:
			e.reportJob(j, how)
			return
		case got != netmon.HalfClosed:
			return
		}
		select {
		case <-tick.C:
		case <-j.ctx.Done():
			return
		}
	}
}
