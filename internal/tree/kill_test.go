package tree

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// family is a job that leaves no way out untried.
const family = `
sleep 1000 &
(sleep 1000; :) &
setsid sleep 1000 &
setsid sh -c 'setsid sleep 1000 & exit' &
sh -c 'trap "" TERM HUP INT; while :; do sleep 1000; done' &
sleep 1000; :`

// sleepers is how many of the family sleep.
const sleepers = 6

// tables are the ways to find children; the kernel may have only the second one.
func tables() map[string]func() table {
	return map[string]func() table{
		"own": func() table { return tableOf(theProc) },
		"all": func() table { return &scan{proc: theProc} },
	}
}

// startFamily starts a job and waits until it is complete.
func startFamily(t testing.TB, tok token) *child {
	t.Helper()
	c := tok.role(t, "job", []string{family})
	c.says(t, "ready")
	until(t, "the family is complete", func() bool { return tok.named(t, "sleep") == sleepers })
	return c
}

// B16
func TestKill(t *testing.T) {
	for name, newTable := range tables() {
		t.Run(name, func(t *testing.T) {
			tok := newToken(t)
			c := startFamily(t, tok)
			fds := countFds(t)
			if err := newHunt(theProc, newTable()).kill([]Root{c.root()}); err != nil {
				t.Error(err)
			}
			if n := countFds(t); n != fds {
				t.Errorf("%d descriptors before, %d after", fds, n)
			}
			tok.wantNone(t)
		})
	}
}

// B16
func TestKillTwoRoots(t *testing.T) {
	tok := newToken(t)
	a, b := startFamily(t, tok), tok.role(t, "job", []string{family})
	b.says(t, "ready")
	until(t, "both are complete", func() bool { return tok.named(t, "sleep") == 2*sleepers })
	if err := Kill(a.root(), b.root(), a.root()); err != nil {
		t.Error(err)
	}
	tok.wantNone(t)
}

// B16
func TestKillStopped(t *testing.T) {
	tok := newToken(t)
	c := startFamily(t, tok)
	for _, pid := range tok.alive(t) {
		unix.Kill(pid, unix.SIGSTOP)
	}
	if err := Kill(c.root()); err != nil {
		t.Error(err)
	}
	tok.wantNone(t)
}

// More members than pidfds that may be kept.
func TestKillByNumber(t *testing.T) {
	for _, room := range []int{0, 3} {
		tok := newToken(t)
		c := startFamily(t, tok)
		h := newHunt(theProc, tableOf(theProc))
		h.room = room
		if err := h.kill([]Root{c.root()}); err != nil {
			t.Error(err)
		}
		tok.wantNone(t)
	}
}

func TestKillNoStranger(t *testing.T) {
	tok, other := newToken(t), newToken(t)
	c, bystander := startFamily(t, tok), start(t, other.command("sleep", "1000"))
	if err := Kill(c.root()); err != nil {
		t.Error(err)
	}
	tok.wantNone(t)
	s, err := theProc.stat(bystander.Process.Pid)
	if err != nil || halted(s) {
		t.Errorf("a stranger is in state %q (%v)", s.state, err)
	}
}

// A hunt whose parent's number has become another's believes nothing that it is told of that number's children.
func TestKillReusedNumber(t *testing.T) {
	tok := newToken(t)
	c := startFamily(t, tok)
	h := newHunt(theProc, tableOf(theProc))
	s, err := theProc.stat(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	former := &member{identity: identity{c.Process.Pid, s.start - 1}, pidfd: -1}
	children, err := childrenOf(theProc, h.table, former.pid)
	if err != nil || len(children) == 0 {
		t.Fatal(children, err)
	}
	for _, pid := range children {
		if err := h.add(identity{pid: pid}, former); err != nil {
			t.Error(err)
		}
	}
	// Nor does it believe that somebody is a child who is not.
	self, err := h.base()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []identity{{children[0], 0}, {c.Process.Pid, s.start - 1}} {
		if err := h.add(id, self); err != nil {
			t.Error(err)
		}
	}
	if len(h.all) > 0 {
		t.Errorf("%d strangers were stopped", len(h.all))
	}
	if h.signal(former, unix.SIGKILL) {
		t.Error("a stranger was signalled by number")
	}
	if n := tok.named(t, "sleep"); n != sleepers {
		t.Errorf("%d of the family are left, want %d", n, sleepers)
	}
}

func TestKillGoneRoot(t *testing.T) {
	tok := newToken(t)
	bystander := start(t, tok.command("sleep", "1000"))
	gone := func(unix.Signal) error { return unix.ESRCH }
	begin := time.Now()
	if err := Kill(Root{bystander.Process.Pid, gone}); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > patience/4 {
		t.Errorf("it took %v to find that there is nobody", d)
	}
	if s, err := theProc.stat(bystander.Process.Pid); err != nil || halted(s) {
		t.Errorf("who has got the number is in state %q (%v)", s.state, err)
	}
}

// Who may not be signalled is named, and does not keep the others alive.
func TestKillDeafRoot(t *testing.T) {
	tok := newToken(t)
	c := startFamily(t, tok)
	r := c.root()
	r.Signal = func(unix.Signal) error { return unix.EPERM }
	err := Kill(r)
	if !errors.Is(err, unix.EPERM) || strings.Count(err.Error(), fmt.Sprint(r.PID)) != 1 {
		t.Errorf("got %v, want it to name %d once", err, r.PID)
	}
	until(t, "only the root is left", func() bool { return slices.Equal(tok.alive(t), []int{r.PID}) })
}

// A caller's panic leaves nobody stopped.
func TestKillPanic(t *testing.T) {
	tok := newToken(t)
	a, b := startFamily(t, tok), newToken(t)
	func() {
		defer func() { recover() }()
		Kill(a.root(), Root{start(t, b.command("sleep", "1000")).Process.Pid, func(unix.Signal) error { panic("test") }})
	}()
	until(t, "the first root has ended", func() bool {
		s, err := theProc.stat(a.Process.Pid)
		return err == nil && s.ended()
	})
}

func countFds(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// BenchmarkKill measures from the call until it returns.
func BenchmarkKill(b *testing.B) {
	const script = `sleep 1000 & setsid sleep 1000 & (sleep 1000; :) & sh -c 'sleep 1000 & sleep 1000; :'; :`
	const members, asleep = 8, 5 // with the root
	for _, roots := range []int{1, 100} {
		b.Run(fmt.Sprint("roots=", roots), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				tok := newToken(b)
				var all []Root
				var cs []*child
				for range roots {
					c := start(b, tok.command("sh", "-c", script))
					all, cs = append(all, c.root()), append(cs, c)
				}
				until(b, "all run", func() bool { return tok.named(b, "sleep") == roots*asleep })
				b.StartTimer()
				if err := Kill(all...); err != nil {
					b.Error(err)
				}
				b.StopTimer()
				for _, c := range cs {
					c.Process.Wait()
				}
				tok.wantNone(b)
				b.StartTimer()
			}
		})
	}
}
