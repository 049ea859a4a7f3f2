package netmon

import "testing"

// A Monitor that takes the place of another finds whoever has left in between.
func TestRecall(t *testing.T) {
	one := []int{7}
	for name, c := range map[string]struct {
		before, between func(k *kernel)
		wants           []Lost
	}{
		"reset in between": { // B38
			between: func(k *kernel) { k.noRow(1) },
			wants:   []Lost{lost(7, 1, Reset)},
		},
		"close in between": {
			between: func(k *kernel) { k.row(1, CloseWait) },
			wants:   []Lost{lost(7, 1, Closed)},
		},
		"reset that was told": {
			before: func(k *kernel) { k.noRow(1) },
			wants:  []Lost{lost(7, 1, Reset)},
		},
		"job closes": { // B40
			between: func(k *kernel) { k.noRow(1); k.noFD(7, 4) },
		},
		"job has ended it first": { // B40
			before:  func(k *kernel) { k.row(1, FinWait2) },
			between: func(k *kernel) { k.noRow(1) },
		},
		"job ends it in between": { // B40
			between: func(k *kernel) { k.row(1, FinWait2) },
		},
		"descriptor used again": { // B40
			between: func(k *kernel) { k.noRow(1); k.row(2, Established); k.fd(7, 4, 2) },
		},
		"moved": {
			between: func(k *kernel) { k.noRow(1); k.noFD(7, 4); k.fd(7, 5, 1) },
			wants:   []Lost{lost(7, 1, Reset)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, m := newKernel(t)
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			if c.before != nil {
				c.before(k)
				if _, err := m.Poll(nil, port80, one); err != nil {
					t.Fatal(err)
				}
			}
			if c.between != nil {
				c.between(k)
			}
			next := NewMonitor(FS(k.root), k)
			next.Recall(m.Known())
			next.Recall(m.Known())
			next.checkBooks(t)
			expect(t, next, one, c.wants...)
			expect(t, next, one)
		})
	}
}

// What is of no use to the next Monitor is forgotten at its first look.
func TestRecallOthers(t *testing.T) {
	k, m := newKernel(t)
	k.row(1, Established)
	k.row(2, Established)
	k.fd(7, 4, 1)
	k.fd(8, 4, 2)
	expect(t, m, []int{7, 8})
	k.noRow(1)
	k.noRow(2)
	next := NewMonitor(FS(k.root), k)
	next.Recall(m.Known())
	expect(t, next, []int{8}, lost(8, 2, Reset))
	if len(next.entries) != 1 {
		t.Errorf("remembered for ever: %+v", next.entries)
	}
	next = NewMonitor(FS(k.root), k)
	next.Recall(m.Known())
	if got, err := next.Poll(nil, []uint16{81}, []int{7, 8}); len(got) > 0 || len(next.entries) > 0 || err != nil {
		t.Errorf("of other ports: %+v, %v, %+v", got, err, next.entries)
	}
	next.checkBooks(t)
}
