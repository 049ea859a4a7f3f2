package test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// Four children hold a thousand connections open, and are full.
func TestC10kSmall(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	testC10k(t, 250)
}

// The same with all there are to be: 20,000. No process of this test has more than half of them.
func TestC10k(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes seconds and hundreds of megabytes: left to the long run without -race")
	}
	testC10k(t, 5000)
}

// testC10k fills four children to their cap. Every connection is answered, by a child that has no more than its cap, and is
// answered again when all are there. One more waits until somebody leaves, and no longer.
func testC10k(t *testing.T, each int) {
	const children, clients = 4, 2
	s := openSite(t)
	d := mustServe(t, s, "c10k", fmt.Sprint("-concurrency=", each))
	var holders []*holder
	begun := time.Now()
	for i := range clients {
		h, err := s.hold(d.addr, fmt.Sprintf("127.0.1.%d", i+1), children*each/clients)
		if err != nil {
			t.Fatal(err)
		}
		holders = append(holders, h)
	}
	answered := map[string]int{}
	for _, h := range holders {
		if err := h.held(); err != nil {
			t.Fatal(err)
		}
		for who, n := range h.answer {
			answered[who] += n
		}
	}
	t.Logf("%d connections answered in %v", children*each, time.Since(begun).Round(time.Millisecond))
	full := func() *status {
		t.Helper()
		st, err := d.await("state=serving", fmt.Sprint("children=", children), fmt.Sprint("working=", children), "born=4", "died=0", "killed=0", "lost=0")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	for _, c := range full().Children {
		if n := answered[fmt.Sprintf("%d/%d", c.PID, c.Slot)]; n != each || c.Running != uint64(each) {
			t.Errorf("child %d has answered %d and brood status shows %d connections, want %d", c.PID, n, c.Running, each)
		}
	}
	checkMemory(t, d.log, each)

	last, err := dial(d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	// All are asked once more meanwhile, so whoever is not answered by then waits.
	if _, err := last.Write([]byte("who\n")); err != nil {
		t.Fatal(err)
	}
	for _, h := range holders {
		if err := h.again(); err != nil {
			t.Fatal(err)
		}
	}
	last.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := last.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the client who is one too many: %d bytes, %v; want nothing", n, err)
	}
	if err := holders[0].leave(); err != nil {
		t.Fatal(err)
	}
	if who, err := answers(last); err != nil || answered[who] != each {
		t.Fatalf("%q answers who has waited, %v", who, err)
	}
	for _, c := range full().Children {
		if c.Running != uint64(each) {
			t.Errorf("child %d has %d connections, want %d", c.PID, c.Running, each)
		}
	}
	for _, h := range holders {
		h.say.Close()
	}
	last.Close()
	if _, err := d.await("idle=4", "died=0", "killed=0", "lost=0", fmt.Sprint("done=", children*each+1)); err != nil {
		t.Error(err)
	}
}

var c10kFull = regexp.MustCompile(`"full: (\d+) connections, ([0-9.]+) KiB of memory for each"`)

// checkMemory looks for what the children have said when they were full.
func checkMemory(t *testing.T, log string, each int) {
	t.Helper()
	var all [][]string
	if err := eventually(patience, func() error {
		text, err := os.ReadFile(log)
		if all = c10kFull.FindAllStringSubmatch(string(text), -1); err == nil && len(all) != 4 {
			err = fmt.Errorf("%d children have said that they are full, want 4", len(all))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		// A stack alone has two KiB. With few connections what the program has for all of them counts, too.
		kib, err := strconv.ParseFloat(m[2], 64)
		if m[1] != strconv.Itoa(each) || err != nil || !raceEnabled && (kib < 2 || kib > 40) {
			t.Errorf("a child has %s connections with %s KiB for each", m[1], m[2])
		}
	}
	t.Log(all)
}
