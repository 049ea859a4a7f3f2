package netmon

import (
	"fmt"
	"net"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Two monitors look at the same connections, each by its own source, and must report the
// same clients: those that have left, and no others.
func TestMonitorsAgree(t *testing.T) { // B38, B40, B43
	needNamespace(t)
	byDiag := newScene(t, newChild(t), ":0", "127.0.0.1", newDiag(t))
	byTable := *byDiag
	byTable.m = NewMonitor(DefaultFS, nil)
	type client struct {
		*net.TCPConn
		n     int  // as the host counts
		ended bool // by either side
		ours  bool // closed by the host
	}
	rapid.Check(t, func(rt *rapid.T) {
		var clients []*client
		var want []string
		gone := func(c *client, how How) { want = append(want, fmt.Sprintln(how, c.LocalAddr())) }
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			what := rapid.SampledFrom([]string{"connect", "close", "half", "reset", "our close", "our shut", "look"}).Draw(rt, "what")
			if what == "connect" {
				clients = append(clients, &client{TCPConn: byDiag.connect(), n: byDiag.n - 1})
				// A reset is found only if the connection has been seen before.
				what = "look"
			}
			if what == "look" {
				compareLooks(rt, byDiag, &byTable, &want)
				continue
			}
			i := slices.IndexFunc(clients, func(c *client) bool { return !c.ended })
			if i < 0 {
				continue
			}
			c := clients[i]
			c.ended = true
			switch what {
			case "close":
				c.Close()
				byDiag.becomes(c, CloseWait)
				gone(c, Closed)
			case "half":
				c.CloseWrite()
				byDiag.becomes(c, CloseWait)
				gone(c, Closed)
			case "reset":
				reset(t, c.TCPConn)
				byDiag.becomes(c, 0)
				gone(c, Reset)
			case "our close":
				byDiag.do(fmt.Sprint("close ", c.n))
				c.ours = true
				byDiag.becomes(c, FinWait2, 0)
			case "our shut":
				byDiag.do(fmt.Sprint("shut ", c.n))
				byDiag.becomes(c, FinWait2)
			}
		}
		compareLooks(rt, byDiag, &byTable, &want)
		for _, c := range clients {
			if !c.ours {
				byDiag.do(fmt.Sprint("close ", c.n))
			}
			c.Close()
		}
		compareLooks(rt, byDiag, &byTable, &want)
	})
}

// compareLooks polls both, which must both report just what is wanted.
func compareLooks(rt *rapid.T, a, b *scene, want *[]string) {
	lines := func(s *scene) []string {
		var all []string
		for _, l := range s.poll() {
			all = append(all, fmt.Sprintln(l.How, l.Foreign))
		}
		slices.Sort(all)
		return all
	}
	slices.Sort(*want)
	x, y := lines(a), lines(b)
	if !slices.Equal(x, *want) || !slices.Equal(y, *want) {
		rt.Fatalf("by inet_diag %q\nby procfs %q\nwanted %q", x, y, *want)
	}
	*want = nil
}
