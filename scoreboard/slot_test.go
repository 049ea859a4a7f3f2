package scoreboard

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// spare counts who could take work, as far as parent and child agree on it.
func TestSpare(t *testing.T) {
	phases := []Phase{PhaseFree, PhaseStarting, PhaseServing, PhaseDraining, PhaseKilling, 99}
	states := []State{Empty, Starting, Idle, Reading, Working, Cancelling, Paused, Draining, 0, 0xff}
	b := create(t, 2*len(phases)*len(states))
	s := attach(t, b, 0)
	want, slot := 0, 0
	if s.spare(1) {
		t.Error("a spare child in an empty slot")
	}
	for _, p := range phases {
		for _, st := range states {
			// One that has a queue of its own does not count, whatever it does.
			must(t, b.Bear(slot, Dequeue, 1, "", time.Now()))
			must(t, b.SetPhase(slot, p))
			attach(t, b, slot).SetState(st, time.Now())
			slot++
			must(t, b.Bear(slot, Serve, 1, "", time.Now()))
			must(t, b.SetPhase(slot, p))
			attach(t, b, slot).SetState(st, time.Now())
			if (p == PhaseStarting || p == PhaseServing) && (st == Starting || st == Idle) {
				want++
			}
			if !s.spare(want) || s.spare(want+1) {
				t.Errorf("phase %d, state %q: not %d spare children", p, st, want)
			}
			slot++
		}
	}
	if want != 4 {
		t.Errorf("%d spare children in all, want 4", want)
	}
}

// mapped counts this process's mappings of a file.
func mapped(t *testing.T, path string) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	return strings.Count(string(maps), path)
}

func TestDetach(t *testing.T) {
	b := create(t, 1)
	s, err := Attach(b.FD(), 0)
	must(t, err)
	if n := mapped(t, b.path); n != 1 {
		t.Errorf("attached: %d mappings, want 1", n)
	}
	must(t, s.Detach())
	if n := mapped(t, b.path); n != 0 {
		t.Errorf("detached: %d mappings, want none", n)
	}
}

// What a reader is shown is the parent's view where that is the stronger one.
func TestShownState(t *testing.T) {
	b := create(t, 1)
	must(t, b.Bear(0, Serve, 1, "", time.Now()))
	s := attach(t, b, 0)
	if c := only(t, b.path); c.State != Starting {
		t.Errorf("just born: %v", c.State)
	}
	for _, c := range []struct {
		phase      Phase
		said, want State
	}{
		{PhaseStarting, Idle, Starting},
		{PhaseServing, Idle, Idle},
		{PhaseServing, Reading, Reading},
		{PhaseServing, Working, Working},
		{PhaseServing, Cancelling, Cancelling},
		{PhaseDraining, Idle, Draining},
		{PhaseDraining, Working, Draining},
		{PhaseDraining, Cancelling, Cancelling},
		{PhaseKilling, Working, Draining},
	} {
		must(t, b.SetPhase(0, c.phase))
		s.SetState(c.said, time.Now())
		if got := only(t, b.path).State; got != c.want {
			t.Errorf("phase %d and %v: shown as %v, want %v", c.phase, c.said, got, c.want)
		}
	}
}

func TestState(t *testing.T) {
	for _, c := range []struct {
		state State
		word  string
		busy  bool
	}{
		{'.', "empty", false},
		{'S', "starting", false},
		{'_', "idle", false},
		{'R', "reading", true},
		{'W', "working", true},
		{'C', "cancelling", true},
		{'P', "paused", false},
		{'G', "draining", false},
		{0, "unknown", false},
		{0x1b, "unknown", false},
	} {
		text, err := c.state.MarshalText()
		if c.state.String() != c.word || string(text) != c.word || err != nil || c.state.Busy() != c.busy {
			t.Errorf("%q: %s, %s, busy %v (%v); want %s, %v", byte(c.state), c.state, text, c.state.Busy(), err, c.word, c.busy)
		}
	}
}

// The text of a job is that job's, and not that of the one after it; a writer who has died in the middle shows none.
func TestText(t *testing.T) { // B47
	b := create(t, 2)
	must(t, b.Bear(1, Serve, 1, "", time.Now()))
	s := attach(t, b, 1)
	says := func(job uint64, want string) {
		t.Helper()
		c, ok, err := b.Child(1)
		got := ""
		if job != 0 && c.Job == job {
			got = c.Text
		}
		if got != want || !ok || err != nil {
			t.Errorf("of job %d: %q, %v, %v; want %q", job, got, ok, err, want)
		}
	}
	says(0, "")
	s.Show(Record{Serial: 7, Text: "seven"})
	says(7, "seven")
	says(8, "")
	s.Show(Record{Serial: 8})
	says(7, "")
	says(8, "")
	s.Show(Record{Serial: 9, Text: strings.Repeat("9", 2*textLen)})
	says(9, strings.Repeat("9", textLen))
	must(t, b.write([]byte{1}, offset(1)+sSeq))
	says(9, "")
	s.Show(Record{})
	says(0, "")
}

// What somebody has written over is there again with the next record, also where that is like the last one: of a part, with the number
// in the middle of a record, and of all that there was.
func TestShowAgain(t *testing.T) {
	b := create(t, 1)
	must(t, b.Bear(0, Serve, 1, "start", time.Unix(8, 8)))
	must(t, b.SetPhase(0, PhaseServing))
	s := attach(t, b, 0)
	s.SetState(Working, time.Unix(9, 9))
	r := recordOf(9)
	s.Show(r)
	want := only(t, b.path)
	seq := s.word(sSeq).Load()
	if s.Show(r); s.word(sSeq).Load() != seq {
		t.Error("written again though it is there")
	}
	for _, c := range []struct{ at, n int }{{sClient, 8}, {sText + 16, SlotSize - sText - 16}, {sSeq, 1}, {sSeq, SlotSize - sSeq}} {
		junk := make([]byte, c.n)
		if c.n == 1 {
			junk[0] = 1
		}
		must(t, b.write(junk, offset(0)+c.at))
		s.Show(r)
		if diff := cmp.Diff(want, only(t, b.path)); diff != "" {
			t.Errorf("%d bytes at %d: (-want +got)\n%s", c.n, c.at, diff)
		}
	}
}

// Duties counts the others that are fed by the listeners, as far as parent and child agree on it.
func TestDuties(t *testing.T) {
	phases := []Phase{PhaseFree, PhaseStarting, PhaseServing, PhaseDraining, PhaseKilling, 99}
	b := create(t, 1+2*4*len(phases))
	must(t, b.Bear(0, Serve, 1, "", time.Now()))
	must(t, b.SetPhase(0, PhaseServing))
	s := attach(t, b, 0)
	s.SetDuty(DutyOn) // of itself it knows
	slot := 1
	var want Duties
	for _, kind := range []Kind{Serve, Dequeue} {
		for _, p := range phases {
			for d := range Duty(4) {
				must(t, b.Bear(slot, kind, 1, "", time.Now()))
				must(t, b.SetPhase(slot, p))
				attach(t, b, slot).SetDuty(d)
				slot++
				if kind == Serve && (p == PhaseStarting || p == PhaseServing) {
					switch d {
					case DutyOn:
						want.On++
					case DutyOff:
						want.Off++
					default:
						want.None++
					}
				}
				if got := s.Duties(); got != want {
					t.Errorf("phase %d, duty %d: %+v, want %+v", p, d, got, want)
				}
			}
		}
	}
	if (want != Duties{2, 2, 4}) {
		t.Errorf("%+v in all", want)
	}
	must(t, b.Free(2))
	must(t, os.Truncate(b.path, 0))
	if got := s.Duties(); got != (Duties{}) {
		t.Errorf("of a file that has been cut short: %+v", got)
	}
}

// Children look at no more slots than the parent says are in use, and at all of them where it says nothing or what cannot be.
func TestUsed(t *testing.T) {
	b := create(t, 9)
	used := func(b *Board) uint64 {
		t.Helper()
		var w [8]byte
		_, err := b.f.ReadAt(w[:], hUsed)
		must(t, err)
		return order.Uint64(w[:])
	}
	serve := func(slot int) {
		t.Helper()
		must(t, b.Bear(slot, Serve, 1, "", time.Now()))
		must(t, b.SetPhase(slot, PhaseServing))
	}
	serve(0)
	s := attach(t, b, 0)
	for i, c := range []struct {
		do   func()
		want uint64
	}{
		{func() {}, 1},
		{func() { serve(3) }, 4},
		{func() { serve(1) }, 4},
		{func() { must(t, b.Free(1)) }, 4},
		{func() { must(t, b.Free(3)) }, 1},
		{func() { serve(8); serve(4) }, 9},
		{func() { must(t, b.Free(8)) }, 5},
		{func() { must(t, b.SetPhase(6, PhaseServing)) }, 7},
		{func() { must(t, b.Free(6)) }, 5},
	} {
		c.do()
		if got := used(b); got != c.want {
			t.Errorf("step %d: %d slots are in use, want %d", i, got, c.want)
		}
	}
	attach(t, b, 4).SetDuty(DutyOn)
	for _, c := range []struct {
		said uint64
		want Duties
	}{{0, Duties{On: 1}}, {4, Duties{}}, {5, Duties{On: 1}}, {9, Duties{On: 1}}, {10, Duties{On: 1}}, {1 << 63, Duties{On: 1}}, {1, Duties{}}} {
		_, err := b.f.WriteAt(order.AppendUint64(nil, c.said), hUsed)
		must(t, err)
		if got := s.Duties(); got != c.want {
			t.Errorf("%d are said to be in use: %+v, want %+v", c.said, got, c.want)
		}
	}
	// Whoever writes over it gets no further than the next look, or the next parent.
	if hurt, err := b.Mend(); !hurt || err != nil || used(b) != 5 {
		t.Errorf("Mend: %v, %v, and %d slots are in use", hurt, err, used(b))
	}
	_, err := b.f.WriteAt(order.AppendUint64(nil, 1), hUsed)
	must(t, err)
	fd, err := unix.Dup(b.FD())
	must(t, err)
	next, err := Adopt(b.path, fd, Identity{Name: "test"}, 9, b.Recorded())
	must(t, err)
	if used(next) != 5 {
		t.Errorf("after an upgrade %d slots are in use", used(next))
	}
	if hurt, err := next.Mend(); hurt || err != nil {
		t.Errorf("after an upgrade, Mend: %v, %v", hurt, err)
	}
	must(t, next.f.Close())
}
