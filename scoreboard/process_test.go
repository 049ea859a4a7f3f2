package scoreboard

import (
	"encoding/json"
	"testing"
	"time"
)

// A child writes as fast as it can. Whatever a reader or the parent gets of it is one record, and no mix of two.
func TestConcurrent(t *testing.T) { // B47
	b := create(t, 3)
	spawn(t, b, 1, "write")
	records, torn, hints, last, begun := map[uint64]bool{}, 0, 0, uint64(0), time.Now()
	enough := func() bool { return len(records) >= 50 && torn > 0 && hints >= 50 }
	for n := 0; another(n, 20_000, begun, enough()); n++ {
		c := only(t, b.path)
		if err := whole(c); err != nil {
			t.Fatal(err)
		}
		if c.Torn {
			torn++
		}
		if c.Job != 0 {
			if c.Job < last {
				t.Fatalf("job %d after job %d", c.Job, last)
			}
			last = c.Job
			records[c.Job] = true
		}
		if h := hintOf(t, b, 1); h.Job != 0 {
			hints++
			if h.Inode != 3*h.Job {
				t.Fatalf("a mix: job %d with inode %d", h.Job, h.Inode)
			}
		}
	}
	t.Logf("%d different records, %d torn, %d hints of a job", len(records), torn, hints)
	if !enough() {
		t.Errorf("%d different records, %d torn, %d hints of a job: too few to mean anything", len(records), torn, hints)
	}
}

// A child dies in the middle of whatever it was doing. Readers get its last record or that it is unknown, and the slot
// can be used again.
func TestKill(t *testing.T) { // B47
	b := create(t, 3)
	kills, torn, begun := 0, 0, time.Now()
	enough := func() bool { return torn > 0 && torn < kills }
	for ; another(kills, 200, begun, enough()); kills++ {
		c := spawn(t, b, 1, "write")
		until(t, "the child works", func() bool { return hintOf(t, b, 1).Done > 0 })
		last := uint64(0)
		for range kills % 50 {
			before := only(t, b.path)
			if err := whole(before); err != nil {
				t.Fatal(err)
			}
			last = max(last, before.Job)
		}
		c.kill9()
		dead := only(t, b.path)
		if err := whole(dead); err != nil {
			t.Fatal(err)
		}
		if dead.Torn {
			torn++
		} else if dead.Job != 0 && dead.Job < last {
			t.Fatalf("dead in job %d, and job %d has been seen before", dead.Job, last)
		}
		if again := only(t, b.path); again != dead {
			t.Fatalf("the dead child shows as %+v and then as %+v", dead, again)
		}
		if h := hintOf(t, b, 1); dead.Torn && h.Job != 0 || h.Job != dead.Job {
			t.Fatalf("the parent sees %+v, readers %+v", h, dead)
		}
		must(t, b.Free(1))
		if h := hintOf(t, b, 1); h != (Hint{}) {
			t.Fatalf("the slot has been freed and says %+v", h)
		}
		if s, err := Read(b.path); err != nil || len(s.Children) != 0 {
			t.Fatalf("the slot has been freed and shows as %+v (%v)", s.Children, err)
		}
	}
	t.Logf("%d of %d died while they wrote a record", torn, kills)
	if !enough() {
		t.Errorf("%d of %d died while they wrote a record: want some of both kinds", torn, kills)
	}
	must(t, b.Bear(1, Serve, 1, "", time.Now()))
	s := attach(t, b, 1)
	s.Show(recordOf(5))
	if c := only(t, b.path); c.Torn || c.Job != 5 {
		t.Errorf("the next child shows as %+v", c)
	}
}

// A child that writes nonsense all the time harms nobody but itself.
func TestVandal(t *testing.T) {
	b := create(t, 3)
	spawn(t, b, 0, "write")
	spawn(t, b, 1, "vandal")
	spawn(t, b, 2, "write")
	for _, slot := range []int{0, 2} {
		until(t, "the neighbours work", func() bool { return hintOf(t, b, slot).Done > 0 })
	}
	until(t, "the vandal works", func() bool { return hintOf(t, b, 1).Done > 1<<32 })
	seen, begun := [3]int{}, time.Now()
	enough := func() bool { return seen[0] >= 10 && seen[2] >= 10 }
	for n := 0; another(n, 2000, begun, enough()); n++ {
		s, err := Read(b.path)
		must(t, err)
		if _, err := json.Marshal(s); err != nil {
			t.Fatal(err)
		}
		if s.Name != "test" || s.Slots != 3 {
			t.Fatalf("the header is now %+v", s)
		}
		found := 0
		for _, c := range s.Children {
			if c.Slot == 1 {
				continue
			}
			found++
			if err := whole(c); err != nil || c.Generation != 1 || c.Cause != "test" {
				t.Fatalf("the neighbour in slot %d is now %+v (%v)", c.Slot, c, err)
			}
			if c.Job != 0 {
				seen[c.Slot]++
			}
		}
		if found != 2 {
			t.Fatalf("%d neighbours, want 2", found)
		}
		hintOf(t, b, 1)
	}
	if !enough() {
		t.Errorf("records of the neighbours that were seen: %v, too few to mean anything", seen)
	}
}
