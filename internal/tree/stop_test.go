package tree

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// B16: what forks all the time, and what lives on by forking and dying, is caught.
func TestKillForkBomb(t *testing.T) {
	// Most of the 200 wait, since the machine is not the test's alone, and the others end by themselves some time, if
	// the test fails.
	const hop = `n=0; hop() { n=$((n+1)); [ $n -gt 5000 ] || hop & }
`
	const bomb = `n=0
loop() { while [ $n -lt 5000 ]; do n=$((n+1)); (sleep 0 & :); done; }
i=0
while [ $i -lt 60 ]; do
	sleep 1000 &
	(setsid sleep 1000 & sleep 1000; :) &
	i=$((i+1))
done
HOPS
loop &
setsid sh -c 'n=0; while [ $n -lt 5000 ]; do n=$((n+1)); setsid sh -c "sleep 0 & :"; done' &
loop; sleep 1000; :`
	for name, newTable := range tables() {
		t.Run(name, func(t *testing.T) {
			tok := newToken(t)
			hops := "hop; hop; setsid sh -c '" + hop + "hop'"
			if _, scans := newTable().(*scan); scans {
				hops = "" // reading all of /proc takes longer than a hop
			}
			c := tok.role(t, "job", []string{hop + strings.Replace(bomb, "HOPS", hops, 1)})
			c.says(t, "ready")
			until(t, "the bomb has gone off", func() bool { return len(tok.alive(t)) >= 200 })
			if err := newHunt(theProc, newTable()).kill([]Root{c.root()}); err != nil {
				t.Error(err)
			}
			tok.wantNone(t)
		})
	}
}

// blink is a table that misses one process until a look has brought nothing for that reason.
type blink struct {
	table
	missed int
	hunt   *hunt
}

func (b *blink) children(pid int, tids []int) ([]int, error) {
	all, err := b.table.children(pid, tids)
	if b.hunt.quiet == 0 {
		all = slices.DeleteFunc(slices.Clone(all), func(pid int) bool { return pid == b.missed })
	}
	return all, err
}

// One look that brings nothing is not believed.
func TestKillBlink(t *testing.T) {
	tok := newToken(t)
	c := startFamily(t, tok)
	children, err := childrenOf(theProc, tableOf(theProc), c.Process.Pid)
	if err != nil || len(children) < 2 {
		t.Fatal(children, err)
	}
	childless := func(pid int) bool {
		below, err := childrenOf(theProc, tableOf(theProc), pid)
		return err == nil && len(below) == 0
	}
	missed := children[slices.IndexFunc(children, childless)] // the one that was forked twice, at least
	h := newHunt(theProc, nil)
	h.table = &blink{tableOf(theProc), missed, h}
	if err := h.kill([]Root{c.root()}); err != nil {
		t.Error(err)
	}
	tok.wantNone(t)
}

// What does not come to rest is killed in the end, and the error says so.
func TestKillRestless(t *testing.T) {
	tok := newToken(t)
	c := startFamily(t, tok)
	r := c.root()
	r.Signal = func(s unix.Signal) error {
		if s == unix.SIGSTOP {
			return nil
		}
		return c.Process.Signal(s)
	}
	h := newHunt(theProc, tableOf(theProc))
	h.limit = 100 * time.Millisecond
	if err := h.kill([]Root{r}); err == nil || !strings.Contains(err.Error(), "no rest") {
		t.Errorf("got %v, want that they do not come to rest", err)
	}
	tok.wantNone(t)
}
