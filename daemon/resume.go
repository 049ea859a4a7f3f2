package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/pidfile"
	"github.com/brooddaemon/brood/internal/tree"
	"github.com/brooddaemon/brood/scoreboard"
)

// adoptLocks takes over the pidfiles that were handed over: the lock is held all the time.
func (p *Parent) adoptLocks() error {
	for _, handed := range p.handed.PIDFiles {
		f, err := pidfile.Adopt(handed.Path, handed.FD)
		if err != nil {
			return err
		}
		p.pidfiles = append(p.pidfiles, f)
		p.onExit(func() { f.Release() })
	}
	return nil
}

// adoptBoard takes over the scoreboard.
func (p *Parent) adoptBoard(path string, id scoreboard.Identity) (err error) {
	if p.board, err = scoreboard.Adopt(path, p.handed.Board, id, p.handed.Slots, p.handed.Events); err != nil {
		return err
	}
	p.openRing()
	return nil
}

// adoptListener returns the listener that was handed over for this very address as it was asked for; nil if there is none. Of a host's
// name it is that of one of its addresses.
func (p *Parent) adoptListener(asked address, ip netip.Addr) *listener {
	if p.handed == nil {
		return nil
	}
	for i, h := range p.handed.Listeners {
		if h.asked() != asked {
			continue
		}
		if ap, err := netip.ParseAddrPort(h.Addr); ip.IsValid() && (err != nil || ap.Addr() != ip) {
			continue
		}
		p.handed.Listeners = append(p.handed.Listeners[:i:i], p.handed.Listeners[i+1:]...)
		return &listener{
			fd: h.FD, asked: asked, network: family(h.Network), addr: h.Addr, port: h.Port, path: h.Path, dev: h.Dev, ino: h.Ino, lent: h.Lent,
			stored: h.Stored, kept: true,
		}
	}
	return nil
}

// handed is what is handed over of a listener. Its options are those of the next program.
func (l *listener) handed() handedListener {
	return handedListener{l.fd, l.asked.Network, l.asked.Text, l.network, l.addr, l.port, l.path, l.dev, l.ino, l.lent, l.stored}
}

// close ends a listener that nobody has taken over.
func (h handedListener) close() {
	(&listener{fd: h.FD, path: h.Path, dev: h.Dev, ino: h.Ino, lent: h.Lent}).close()
}

func (h handedListener) asked() address { return address{h.AskedNetwork, h.AskedAddress} }

// dropListeners closes those that this program has not asked for.
func (p *Parent) dropListeners() {
	if p.handed == nil {
		return
	}
	for _, h := range p.handed.Listeners {
		p.log.Info("not listening any more", "network", h.Network, "addr", h.Addr)
		if h.Stored != "" {
			p.service.forget(p.log, h.Stored)
		}
		h.close()
	}
	p.handed.Listeners = nil
}

// resume makes the children of the parent before this one the loop's own.
func (l *loop) resume() error {
	h := l.handed
	l.pool.load(h.Pool, watchmaker{time.Now(), monotonic()})
	l.shown = scoreboard.Status{} // so that it is written
	for _, p := range h.Programs {
		papers, known, err := l.renewPapers(p.Papers)
		if err != nil {
			return err
		}
		l.programs[p.Generation] = &program{fd: p.FD, print: p.Print, speaks: p.Speaks, papers: papers, terms: l.termsFor(known)}
	}
	waits := map[int]*process{} // by process id, for those who are not ready
	for _, c := range h.Children {
		proc, err := resumeProcess(c)
		if err != nil {
			return fmt.Errorf("child %d: %w", c.PID, err)
		}
		if proc.under == (under{}) { // of a parent that did not tell
			proc.under = l.now().under()
		}
		l.processes[c.Slot], waits[c.PID] = proc, proc
	}
	for _, ho := range h.Outputs {
		var w *words
		proc := waits[ho.From.PID]
		if proc != nil {
			w = proc.words
		}
		o := l.listenTo(os.NewFile(uintptr(ho.FD), "output"), ho.Stream, ho.From, w, ho)
		if proc != nil {
			if ho.Stream == access {
				proc.ledger = o.ledger
			}
			proc.output.Go(func() { o.read(l.Parent) })
		} else {
			go o.read(l.Parent)
		}
	}
	for _, c := range h.Children {
		if proc := l.processes[c.Slot]; proc.ledger == nil {
			proc.ledger = l.openLedger(c.origin, c.Ledger)
			proc.ledger.finished()
		}
	}
	for _, proc := range l.processes {
		proc.attend(l.Parent)
		if len(proc.unsent) > 0 {
			go proc.awaitRoom(l.Parent)
		}
	}
	l.crashToLog()
	if l.cfg.AllReady != nil {
		l.hooks.do("AllReady", func() { l.cfg.AllReady(l.Parent) })
	}
	return nil
}

func resumeProcess(c handedChild) (*process, error) {
	proc := &process{
		who: who{c.Slot, c.Life}, pid: c.PID, generation: c.Generation, suspect: c.Suspect, proto: c.Proto, under: c.Under,
		control: os.NewFile(uintptr(c.Control), "control"), said: make(chan struct{}),
		words: &words{failed: c.Failed, tail: c.Tail, enough: c.Ready}, unsent: c.Unsent,
	}
	// Our child, and not reaped: the number is nobody else's.
	pidfd, err := unix.PidfdOpen(c.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	proc.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	if c.Leaf != "" {
		if proc.leaf, err = tree.OpenLeaf(c.Leaf); err != nil {
			return nil, err
		}
	}
	proc.controlRaw, err = proc.control.SyscallConn()
	return proc, err
}

// resumed is the first event of a parent that has taken over. Operators whose requests the parent before it has taken get
// their answers.
func (l *loop) resumed() evResume {
	ev := evResume{cause: l.handed.Cause, gap: monotonic() - l.handed.At}
	for _, w := range l.handed.Waiting {
		c := w.conn()
		if c == nil {
			continue
		}
		o := l.succession.await(c, w.Request)
		switch w.Request.Verb {
		case "":
			go l.serveOperator(c)
			continue
		case control.VerbReload:
			ev.reloads = append(ev.reloads, o.reply)
		case control.VerbScale:
			ev.scales = append(ev.scales, o.reply)
		case control.VerbDrain:
			ev.drains = append(ev.drains, evDrain{pid: w.Request.PID, begin: w.Request.Begin, reply: o.reply})
		case control.VerbStatus, control.VerbEvents:
			o.answer <- l.tellOperator(w.Request)
		default: // it has been upgraded, and what else has been asked for was done at once
			o.reply(nil)
		}
		go l.answerOperator(o)
	}
	l.handed = nil // nothing of it is needed any more
	return ev
}

// conn makes a connection of the descriptor, once; nil if he has gone.
func (w handedOperator) conn() *net.UnixConn {
	f := os.NewFile(uintptr(w.FD), "operator")
	defer f.Close()
	fc, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	c, _ := fc.(*net.UnixConn)
	return c
}

// giveUp ends what a loop would have taken over, when it has come to none: operators are told why, and nobody is to look for
// the daemon at its control socket.
func (p *Parent) giveUp(err error) {
	if p.log != nil {
		p.log.Error("the new program cannot take over, the children finish their jobs", "err", err)
	}
	for _, w := range p.handed.Waiting {
		if c := w.conn(); c != nil {
			control.Answer(c, control.Reply{Error: fmt.Sprintf("the new program cannot take over, the children finish their jobs: %v", err)})
			c.Close()
		}
	}
	for _, h := range p.handed.Listeners {
		if h.Stored == "" { // see ended
			h.close()
		}
	}
	os.Remove(filepath.Join(p.handed.RunDir, control.SocketName))
}
