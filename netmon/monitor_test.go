package netmon

import (
	"errors"
	"net/netip"
	"testing"
)

func TestMonitor(t *testing.T) {
	one := []int{7}
	steps := map[string]func(t *testing.T, k *kernel, m *Monitor){
		"close is told once": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			k.row(1, CloseWait)
			expect(t, m, one, lost(7, 1, Closed))
			expect(t, m, one)
			k.noRow(1) // the job wrote, and was answered with a reset
			expect(t, m, one)
			expect(t, m, one)
		},
		"close before the first look": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, CloseWait)
			k.fd(7, 4, 1)
			expect(t, m, one, lost(7, 1, Closed))
		},
		"reset is told once": func(t *testing.T, k *kernel, m *Monitor) { // B38
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			k.noRow(1)
			expect(t, m, one, lost(7, 1, Reset))
			expect(t, m, one)
			k.noFD(7, 4)
			expect(t, m, one)
			if len(m.entries) != 0 {
				t.Fatal("remembered for ever")
			}
		},
		"job closes": func(t *testing.T, k *kernel, m *Monitor) { // B40
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			k.noRow(1)
			k.noFD(7, 4)
			expect(t, m, one)
			if k.looks != 2 {
				t.Errorf("%d looks, as if that were a reset", k.looks)
			}
		},
		"job closes and its descriptor is used again": func(t *testing.T, k *kernel, m *Monitor) { // B40
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			k.noRow(1)
			k.row(2, Established)
			k.fd(7, 4, 2)
			expect(t, m, one)
			k.noRow(2)
			expect(t, m, one, lost(7, 2, Reset))
		},
		"job shuts down first": func(t *testing.T, k *kernel, m *Monitor) { // B40
			k.fd(7, 4, 1)
			for _, s := range []State{Established, FinWait1, FinWait2, Closing} {
				k.row(1, s)
				expect(t, m, one)
			}
			k.noRow(1)
			expect(t, m, one)
			if len(m.entries) != 0 {
				t.Fatal("remembered for ever")
			}
		},
		"never after our own end": func(t *testing.T, k *kernel, m *Monitor) { // B40
			k.fd(7, 4, 1)
			for _, s := range []State{Established, FinWait2, CloseWait, LastAck, CloseWait} {
				k.row(1, s)
				expect(t, m, one)
			}
		},
		"job shuts down, client closes, all between two looks": func(t *testing.T, k *kernel, m *Monitor) { // B40
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			k.noRow(1)
			wait := clientConn(1, TimeWait)
			wait.Inode = 0
			k.rows = append(k.rows, wait)
			expect(t, m, one)
			expect(t, m, one)
		},
		"row left out of one look": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			k.noRow(1)
			k.hook = func(look int) {
				if look == 3 {
					k.row(1, Established)
				}
			}
			expect(t, m, one)
			expect(t, m, one)
			k.row(1, CloseWait)
			expect(t, m, one, lost(7, 1, Closed))
		},
		"row of a told client left out": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, CloseWait)
			k.fd(7, 4, 1)
			expect(t, m, one, lost(7, 1, Closed))
			k.noRow(1)
			expect(t, m, one)
			k.row(1, CloseWait)
			expect(t, m, one)
		},
		"job closes during the second look": func(t *testing.T, k *kernel, m *Monitor) { // B40
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			k.noRow(1)
			k.hook = func(look int) {
				if look == 3 {
					k.noFD(7, 4)
				}
			}
			expect(t, m, one)
		},
		"two clients of one process": func(t *testing.T, k *kernel, m *Monitor) { // B43
			for i := uint64(1); i <= 4; i++ {
				k.row(i, Established)
				k.fd(7, int(i)+3, i)
			}
			expect(t, m, one)
			k.row(1, CloseWait)
			k.noRow(2)
			expect(t, m, one, lost(7, 1, Closed), lost(7, 2, Reset))
			k.row(3, CloseWait)
			expect(t, m, one, lost(7, 3, Closed))
			expect(t, m, one)
		},
		"same addresses after a reset": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			next := clientConn(1, Established)
			next.Inode = 9
			k.rows = []Conn{next}
			k.fd(7, 5, 9)
			expect(t, m, one, lost(7, 1, Reset))
			k.rows[0].State = CloseWait
			want := lost(7, 1, Closed)
			want.Inode = 9
			expect(t, m, one, want)
		},
		"inode used again": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, CloseWait)
			k.fd(7, 4, 1)
			expect(t, m, one, lost(7, 1, Closed))
			k.rows[0].Remote = netip.MustParseAddrPort("10.9.9.9:9")
			want := lost(7, 1, Closed)
			want.Foreign = k.rows[0].Remote
			expect(t, m, one, want)
		},
		"several paths": func(t *testing.T, k *kernel, m *Monitor) { // MPTCP
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			path := clientConn(2, Established)
			path.Inode = 1
			k.rows = append(k.rows, path)
			expect(t, m, one)
			k.rows[0], k.rows[1] = path, k.rows[0]
			k.rows[0].State = CloseWait
			expect(t, m, one)
			expect(t, m, one)
		},
		"waiting to be accepted": func(t *testing.T, k *kernel, m *Monitor) {
			k.rows = []Conn{clientConn(0, CloseWait)}
			expect(t, m, one)
			k.rows = nil
			expect(t, m, one)
		},
		"connections that the job opened": func(t *testing.T, k *kernel, m *Monitor) { // B42
			c := conn("10.0.0.1:50000", "10.0.0.3:80", 1, CloseWait)
			k.rows = []Conn{c}
			k.fd(7, 4, 1)
			expect(t, m, one)
		},
		"port taken out": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, one)
			if got, err := m.Poll(nil, []uint16{81}, one); len(got) > 0 || err != nil {
				t.Fatal(got, err)
			}
			expect(t, m, one)
		},
		"nothing to watch": func(t *testing.T, k *kernel, m *Monitor) { // B44
			k.row(1, CloseWait)
			k.fd(7, 4, 1)
			expect(t, m, nil)
			if got, err := m.Poll(nil, nil, one); len(got) > 0 || err != nil || k.looks != 0 {
				t.Fatal(got, err, k.looks)
			}
			expect(t, m, []int{0, -1})
			expect(t, m, one, lost(7, 1, Closed))
			expect(t, m, nil)
			expect(t, m, one)
		},
		"table cannot be read": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.row(2, Established)
			k.fd(7, 4, 1)
			k.fd(7, 5, 2)
			expect(t, m, one)
			k.noRow(1)
			k.row(2, CloseWait)
			k.err = errors.New("no table")
			if got, err := m.Poll(nil, port80, one); err != k.err || len(got) > 0 {
				t.Fatal(got, err)
			}
			// And now only the second look fails.
			bad := k.err
			k.err = nil
			k.hook = func(look int) {
				if look == 4 {
					k.err = bad
				}
			}
			got, err := m.Poll(nil, port80, one)
			if err != bad {
				t.Fatal(err)
			}
			check(t, got, []Lost{lost(7, 2, Closed)})
			k.err = nil
			expect(t, m, one, lost(7, 1, Reset))
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			k, m := newKernel(t)
			step(t, k, m)
		})
	}
}

// Steady state is what a poll meets almost always: nothing has changed. // B44
func TestPollAllocatesNothing(t *testing.T) {
	k, m := newKernel(t)
	for i := range 500 {
		k.row(uint64(i+1), Established)
		k.fd(7+i%2, 10+i, uint64(i+1))
	}
	k.row(501, CloseWait)
	k.fd(7, 3, 501)
	k.row(502, Established) // nobody's
	pids := []int{7, 8}
	expect(t, m, pids, lost(7, 501, Closed))
	for range 70 {
		expect(t, m, pids)
	}
	var out []Lost
	if n := testing.AllocsPerRun(130, func() {
		var err error
		if out, err = m.Poll(out[:0], port80, pids); err != nil || len(out) > 0 {
			t.Fatal(out, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a poll", n)
	}
}
