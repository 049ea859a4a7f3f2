package netmon

import (
	"os"
	"strings"
	"testing"
	"time"
)

// snmp is the file with the counters, of which only those of TCP matter here.
func snmp(counters string) string {
	return "Ip: Forwarding DefaultTTL\nIp: 2 64\nTcp: RtoMin ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs\nTcp: " +
		counters + "\nUdp: InDatagrams\nUdp: 5\n"
}

func TestGate(t *testing.T) {
	dir := t.TempDir()
	g := NewGate(FS(dir))
	now := time.Now()
	due := func(after time.Duration, counters string, want bool) {
		t.Helper()
		now = now.Add(after)
		if counters != "" {
			write(t, dir, "net/snmp", snmp(counters))
		}
		if got, err := g.Due(now); err != nil || got != want {
			t.Fatalf("due: %v, %v", got, err)
		}
	}
	due(0, "200 1 2 3 4 5 6 7", true)                // the first time
	due(time.Millisecond, "", true)                  // once more
	due(time.Millisecond, "", false)                 // nothing happens
	due(time.Second, "200 1 2 99 4 5 6 99", false)   // nothing that matters
	due(time.Second, "200 1 2 99 4 5 7 99", true)    // a segment
	due(time.Second, "", true)                       // which may have been counted before it had effect
	due(time.Second, "", false)                      //
	due(gateTime-2*time.Second, "", false)           //
	due(time.Second, "", true)                       // it is long ago
	due(time.Second, "", false)                      // but nothing has moved
	due(time.Second, "200 1 2 99 4 50 7 99", true)   // each counter
	due(time.Second, "200 1 2 99 40 50 7 99", true)  //
	due(time.Second, "200 1 20 99 40 50 7 99", true) //
	due(time.Second, "200 10 20 99 40 50 7 99", true)
	due(time.Second, "", true)
	due(time.Second, "", false)

	for _, bad := range []string{"", "Tcp: ", snmp("1 2 3"), snmp("200 1 2 3 4 5 "), strings.ReplaceAll(snmp("1 2 3 4 5 6 7 8"), "InSegs", "In"),
		"Tcp: InSegs\n", strings.Repeat("x", 20_000), "Tcp:\nTcp:\n"} {
		write(t, dir, "net/snmp", bad)
		if got, err := g.Due(now); err == nil || !got || !strings.Contains(err.Error(), dir) {
			t.Errorf("%.40q: due %v, error %v", bad, got, err)
		}
	}
	// Not knowing is no reason to think that nothing has moved since.
	due(0, "200 10 20 99 40 50 7 99", true)
	if err := os.Remove(dir + "/net/snmp"); err != nil {
		t.Fatal(err)
	}
	if got, err := g.Due(now); err == nil || !got {
		t.Error(got, err)
	}
}

// Whatever a client does opens the gate, and it is shut while clients rest.
func TestGateOfTheKernel(t *testing.T) {
	needNamespace(t)
	h := &here{t: t}
	t.Cleanup(h.closeAll)
	s := newScene(t, h, "127.0.0.1:0", "127.0.0.1", newDiag(t))
	g := NewGate(DefaultFS)
	now := time.Now() // which stands still
	due := func() bool {
		t.Helper()
		got, err := g.Due(now)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	rests := func() {
		t.Helper()
		quiet := 0
		eventually(t, func() bool {
			if quiet++; due() {
				quiet = 0
			}
			return quiet == 3
		})
	}
	rests()
	c := s.connect()
	if !due() {
		t.Error("a client has connected")
	}
	cut := s.connect()
	rests()
	c.Close()
	if !due() {
		t.Error("a client has closed")
	}
	rests()
	reset(t, cut)
	if !due() {
		t.Error("a client has reset")
	}
	rests()
	if n := testing.AllocsPerRun(50, func() { due() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzGate(f *testing.F) {
	f.Add([]byte(snmp("200 1 2 3 4 5 6 7")))
	f.Add([]byte("Tcp: \nTcp: \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := appendCounters([]byte("had"), text)
		if !strings.HasPrefix(string(got), "had") {
			t.Fatalf("%q", got)
		}
		if err == nil && strings.Count(string(got), " ") < len(gateCounters) {
			t.Fatalf("%q from %q", got, text)
		}
	})
}
