package daemon

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A HalfClose says what it means that a client has sent FIN: he will send no more, but may still want the answer. On TCP
// that looks the same whether he has closed his connection or only his half of it.
type HalfClose string

const (
	// HalfCloseGone takes a FIN for the client's leaving.
	HalfCloseGone HalfClose = "gone"
	// HalfCloseConfirm asks Config.ConfirmGone whether a client who has sent FIN has left.
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
	case HalfCloseGone, HalfCloseIgnore:
		return nil
	case HalfCloseConfirm:
		if cfg.ConfirmGone != nil {
			return nil
		}
		return fmt.Errorf("field HalfClose is %q, but there is no ConfirmGone to ask: set it, or say %q or %q",
			HalfCloseConfirm, HalfCloseGone, HalfCloseIgnore)
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

// confirm asks whether the client of the job that runs on conn has left, once for each job. It does not wait for the answer.
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
	answer := make(chan bool, 1)
	go func() {
		gone := false
		defer func() { answer <- gone }() // also if it calls runtime.Goexit
		if err := guard("ConfirmGone", func() error { gone = e.c.cfg.ConfirmGone(conn); return nil }); err != nil {
			e.c.complain("%v", err)
		}
	}()
	go func() {
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
	}()
}
