package scoreboard

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Somebody cuts the file under a child: what it says is lost, and nothing else happens to it. The parent makes the file whole.
func TestMend(t *testing.T) {
	for _, at := range []int64{0, 7, HeaderSize, HeaderSize + SlotSize + parentPart + 8, int64(offset(4)), int64(size(4)) - 1} {
		b := create(t, 4)
		must(t, b.SetListen("here"))
		must(t, b.SetStatus(Status{State: "serving", Generation: 3, Want: 4, Reload: "because"}, time.Unix(7, 7)))
		var slots []*Slot
		for i := range 4 {
			must(t, b.Bear(i, Serve, 3, "start", time.Unix(8, 8)))
			must(t, b.SetPID(i, 100+i))
			must(t, b.SetPhase(i, PhaseServing))
			slots = append(slots, attach(t, b, i))
		}
		before, err := Read(b.path)
		must(t, err)
		must(t, os.Truncate(b.path, at))
		for _, s := range slots {
			s.SetState(Working, time.Now())
			s.SetWork(Work{State: Working, Since: time.Now(), Running: 1, Done: 1, Job: recordOf(9)})
			s.Show(recordOf(9))
			s.Skip()
			s.Refuse()
			s.Revoked()
			s.Attention()
		}
		if at == 0 && !slots[0].Attention() {
			t.Error("who cannot see whether it is to ring does not")
		}
		must(t, b.Record(Event{Kind: EventNote})) // makes it longer, with a hole
		if cut, err := b.Mend(); !cut || err != nil {
			t.Errorf("cut at %d: Mend says %v, %v", at, cut, err)
		}
		if cut, err := b.Mend(); cut || err != nil {
			t.Errorf("cut at %d and mended: Mend says %v, %v", at, cut, err)
		}
		for _, s := range slots {
			s.SetWork(Work{State: Idle, Since: time.Unix(9, 9)})
			s.word(sSkipped).Store(0)
			s.word(sRefused).Store(0)
		}
		after, err := Read(b.path)
		must(t, err)
		for i := range before.Children {
			before.Children[i].State, before.Children[i].Since = Idle, time.Unix(9, 9)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("cut at %d: %s", at, diff)
		}
	}
}

// A fault that is not the file's is nobody's to hide.
func TestSurviveOnlyCuts(t *testing.T) {
	s := attach(t, create(t, 1), 0)
	for name, f := range map[string]func(){
		"nil":   func() { var p *int; *p = 1 },
		"panic": func() { panic("else") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: hidden", name)
				}
			}()
			done := false
			defer s.survive(&done, false)
			f()
		}()
	}
}

// Somebody writes over the header: it is mended, before and after an upgrade, which takes nothing from it.
func TestMendHead(t *testing.T) {
	for name, hurt := range map[string]func(b *Board) error{
		"beheaded": func(b *Board) error { _, err := b.f.WriteAt(bytes.Repeat([]byte{0xff}, HeaderSize), 0); return err },
		"1 slot":   func(b *Board) error { _, err := b.f.WriteAt([]byte{1, 0, 0, 0}, hSlots); return err },
		"9 slots":  func(b *Board) error { _, err := b.f.WriteAt([]byte{9, 0, 0, 0}, hSlots); return err },
		"no ring":  func(b *Board) error { _, err := b.f.WriteAt([]byte{0, 0, 0, 0}, hEvents); return err },
		"cut":      func(b *Board) error { return b.f.Truncate(0) },
	} {
		b := create(t, 4)
		must(t, b.SetListen("here"))
		must(t, b.Bear(3, Serve, 3, "start", time.Unix(8, 8)))
		must(t, b.SetPID(3, 103))
		must(t, b.Record(Event{Kind: EventNote}))
		before, err := Read(b.path)
		must(t, err)
		must(t, hurt(b))
		if hurt, err := b.Mend(); !hurt || err != nil {
			t.Errorf("%s: Mend says %v, %v", name, hurt, err)
		}
		after, err := Read(b.path)
		must(t, err)
		if name == "cut" {
			before.Children[0].State, before.Children[0].Since = after.Children[0].State, after.Children[0].Since // the child's
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}

		must(t, hurt(b))
		fd, err := unix.Dup(b.FD())
		must(t, err)
		next, err := Adopt(b.path, fd, Identity{Name: "test"}, 4, b.Recorded())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		must(t, next.SetListen("here"))
		if _, err := next.Mend(); err != nil {
			t.Errorf("%s: the next parent: %v", name, err)
		}
		if hurt, err := next.Mend(); hurt || err != nil {
			t.Errorf("%s: the next parent, again: %v, %v", name, hurt, err)
		}
		after, err = Read(b.path)
		must(t, err)
		if next.Slots() != 4 || after.Slots != 4 || after.Identity != before.Identity || after.Listen != before.Listen {
			t.Errorf("%s: the next parent has %d slots and %+v, want %+v", name, next.Slots(), after, before)
		}
		must(t, next.Record(Event{Kind: EventNote}))
		if got := since(t, openRing(t, b.path), b.Recorded()); len(got) != 1 || got[0].Seq != b.Recorded()+1 {
			t.Errorf("%s: the next parent has recorded %+v", name, got)
		}
		must(t, next.Remove())
	}
}
