package netmon

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// modelConn is a connection as the model knows it.
type modelConn struct {
	inode uint64
	pid   int // 0: closed by its process
	fd    int
	state State // 0: no row
	shown bool  // a look has shown it, held by a child
	ours  bool  // our side ended it first
	due   How   // what must be reported
	told  bool
}

// TestModel lets clients and children do what they like between looks, and checks that
// exactly those clients are reported that left, each once, whatever the order, and
// though descriptors are used again all the time.
func TestModel(t *testing.T) { // B38, B40, B43
	rapid.Check(t, func(rt *rapid.T) {
		k, m := newKernel(t)
		pids := []int{7, 8}
		open := map[slot]uint64{}
		var conns []*modelConn
		last := uint64(0)
		lowest := func(pid int) int {
			fd := 3
			for open[slot{pid, fd}] != 0 {
				fd++
			}
			return fd
		}
		pick := func(ok func(*modelConn) bool) *modelConn {
			var some []*modelConn
			for _, c := range conns {
				if ok(c) {
					some = append(some, c)
				}
			}
			if len(some) == 0 {
				return nil
			}
			return some[rapid.IntRange(0, len(some)-1).Draw(rt, "which")]
		}
		show := func(c *modelConn, s State) {
			c.state = s
			if s == 0 {
				k.noRow(c.inode)
			} else {
				k.row(c.inode, s)
			}
		}
		talks := func(c *modelConn) bool { return c.pid != 0 && c.state == Established }
		actions := map[string]func(*rapid.T){
			"accept": func(*rapid.T) {
				last++
				pid := rapid.SampledFrom(pids).Draw(rt, "pid")
				c := &modelConn{inode: last, pid: pid, fd: lowest(pid)}
				open[slot{c.pid, c.fd}] = c.inode
				k.fd(c.pid, c.fd, c.inode)
				show(c, Established)
				conns = append(conns, c)
			},
			"client closes": func(*rapid.T) {
				if c := pick(talks); c != nil {
					show(c, CloseWait)
					c.due = Closed
				}
			},
			"client resets": func(*rapid.T) {
				if c := pick(talks); c != nil {
					show(c, 0)
					if c.shown {
						c.due = Reset
					}
				}
			},
			"job shuts down": func(*rapid.T) {
				c := pick(func(c *modelConn) bool { return talks(c) || c.pid != 0 && c.state == CloseWait })
				if c == nil {
					return
				}
				if c.state == CloseWait {
					show(c, LastAck)
				} else {
					show(c, FinWait2)
				}
				c.ours = true
			},
			"job closes": func(*rapid.T) {
				if c := pick(func(c *modelConn) bool { return c.pid != 0 }); c != nil {
					delete(open, slot{c.pid, c.fd})
					k.noFD(c.pid, c.fd)
					show(c, 0)
					c.pid = 0
				}
			},
			"poll": func(*rapid.T) {
				// Now and then a row is left out while the table is read.
				hidden := pick(func(c *modelConn) bool { return c.state != 0 })
				if hidden != nil && rapid.Bool().Draw(rt, "all rows") {
					hidden = nil
				}
				k.looks = 0
				k.hook = func(look int) {
					if hidden != nil && look == 1 {
						k.noRow(hidden.inode)
					} else if hidden != nil {
						k.row(hidden.inode, hidden.state)
					}
				}
				got, err := m.Poll(nil, port80, pids)
				k.hook = nil
				if hidden != nil {
					k.row(hidden.inode, hidden.state)
				}
				if err != nil {
					rt.Fatal(err)
				}
				m.checkBooks(rt)
				for _, c := range conns {
					at := slices.IndexFunc(got, func(l Lost) bool { return l.Inode == c.inode })
					want := c.due != 0 && !c.told && c.pid != 0 && !c.ours && c != hidden
					switch {
					case want && at < 0:
						rt.Fatalf("not reported: %+v", *c)
					case !want && at >= 0:
						rt.Fatalf("reported %+v of %+v", got[at], *c)
					case want:
						if got[at] != lost(c.pid, c.inode, c.due) {
							rt.Fatalf("reported %+v of %+v", got[at], *c)
						}
						c.told = true
						got = slices.Delete(got, at, at+1)
					}
					c.shown = c.shown || c.state != 0 && c != hidden
				}
				if len(got) > 0 {
					rt.Fatalf("reported twice: %+v", got)
				}
			},
			"": func(*rapid.T) {
				if len(m.entries) > len(conns) {
					rt.Fatalf("%d entries of %d connections", len(m.entries), len(conns))
				}
			},
		}
		rt.Repeat(actions)
		for _, c := range conns {
			if c.pid != 0 {
				k.noFD(c.pid, c.fd)
			}
			k.noRow(c.inode)
		}
		if got, err := m.Poll(nil, port80, pids); err != nil || len(got) > 0 || len(m.entries) > 0 {
			rt.Fatalf("after all is over: %v, %v, %d entries", got, err, len(m.entries))
		}
	})
}
