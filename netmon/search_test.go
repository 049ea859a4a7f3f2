package netmon

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHolders(t *testing.T) {
	a, ab := []int{7}, []int{7, 8}
	steps := map[string]func(t *testing.T, k *kernel, m *Monitor){
		"held by nobody of ours": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, CloseWait)
			k.row(2, Established)
			k.fd(99, 4, 1)
			k.fd(99, 5, 2)
			k.fd(7, 4, 3)
			expect(t, m, ab)
			k.noRow(2)
			expect(t, m, ab)
		},
		"several holders": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, CloseWait)
			for _, pid := range []int{6, 7, 8} {
				k.fd(pid, 4, 1)
			}
			expect(t, m, []int{8, 7}, lost(8, 1, Closed))
			expect(t, m, []int{7, 8, 6})
		},
		"comes to a child later": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 77)
			for range 5 {
				expect(t, m, a)
			}
			k.fd(7, 4, 1) // as many descriptors as before
			k.row(1, CloseWait)
			var got []Lost
			for range 64 {
				var err error
				if got, err = m.Poll(got, port80, a); err != nil {
					t.Fatal(err)
				}
			}
			check(t, got, []Lost{lost(7, 1, Closed)})
		},
		"comes to a child that is new": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, CloseWait)
			for range 5 {
				expect(t, m, a)
			}
			k.fd(8, 4, 1)
			expect(t, m, ab, lost(8, 1, Closed))
		},
		"moved to another descriptor, then reset": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.row(2, Established)
			k.fd(7, 4, 1)
			k.fd(7, 5, 2)
			for fd := 10; fd < 40; fd++ {
				k.fd(7, fd, uint64(1000+fd)) // sockets of no interest
			}
			expect(t, m, a)
			k.noFD(7, 4)
			k.link(7, 4, "/dev/null")
			k.fd(7, 9, 1)
			k.noRow(1)
			expect(t, m, a, lost(7, 1, Reset))
			expect(t, m, a)
		},
		"moved to another descriptor, then closed": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, a)
			k.noFD(7, 4)
			k.fd(7, 9, 1)
			k.row(1, CloseWait)
			expect(t, m, a, lost(7, 1, Closed))
		},
		"given to another child, then closed": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, ab)
			k.noFD(7, 4)
			k.fd(8, 5, 1)
			k.row(1, CloseWait)
			expect(t, m, ab, lost(8, 1, Closed))
		},
		"kept by a grandchild": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 1)
			k.fd(99, 4, 1)
			expect(t, m, ab)
			k.noFD(7, 4) // the job is done and serves another
			k.row(1, CloseWait)
			expect(t, m, ab)
			k.noRow(1)
			expect(t, m, ab)
		},
		// A descriptor believed to hold a live socket is skipped at first. If it
		// holds a new one meanwhile, that is found soon after.
		"hidden behind a stale belief": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, a)
			k.fd(7, 5, 1)
			k.fd(7, 4, 2)
			k.row(2, Established)
			for range 3 {
				expect(t, m, a)
			}
			k.row(2, CloseWait)
			expect(t, m, a, lost(7, 2, Closed))
			k.noRow(1)
			expect(t, m, a, lost(7, 1, Reset))
		},
		"child ends": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.row(2, Established)
			k.fd(7, 4, 1)
			k.fd(8, 4, 2)
			expect(t, m, ab)
			if err := os.RemoveAll(k.root + "/7"); err != nil {
				t.Fatal(err)
			}
			k.row(1, CloseWait) // held by a grandchild, say
			expect(t, m, ab)
			k.noRow(1)
			k.noRow(2)
			expect(t, m, a) // 8 is not asked about any more
			if len(m.entries) != 0 {
				t.Fatal("remembered for ever")
			}
		},
		"pid used again": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, Established)
			k.fd(7, 4, 1)
			expect(t, m, a)
			k.fd(7, 4, 5)
			k.row(1, CloseWait)
			expect(t, m, a)
		},
		"child comes and goes": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, CloseWait)
			k.fd(7, 4, 1)
			expect(t, m, ab, lost(7, 1, Closed))
			expect(t, m, []int{8})
			expect(t, m, ab)
		},
		"descriptors of all kinds": func(t *testing.T, k *kernel, m *Monitor) {
			k.row(1, CloseWait)
			for i, target := range []string{"/dev/null", "pipe:[1]", "anon_inode:[eventpoll]", "socket:[", "socket:[]",
				"socket:[1", "socket:[1x]", "socket:[-1]", "socket:[18446744073709551617]", "mnt:[1]"} {
				k.link(7, i, target)
			}
			if err := os.WriteFile(k.root+"/7/fd/name", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("socket:[1]", k.root+"/7/fd/99999999999999999999"); err != nil {
				t.Fatal(err)
			}
			for range 4 {
				got, _ := m.Poll(nil, port80, a) // "name" is no link; not what is tested
				check(t, got, nil)
			}
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			k, m := newKernel(t)
			step(t, k, m)
		})
	}
}

// What nobody of ours holds must not make us read their descriptors over and over. // B44
func TestSearchIsSeldom(t *testing.T) {
	k, m := newKernel(t)
	k.row(1, Established)
	k.fd(7, 4, 2)
	listed, before := 0, openFDs(t)
	for range 1024 {
		expect(t, m, []int{7})
		if m.procs[0].when == m.round {
			listed++
		}
	}
	// 0, 2, 4, … 64, 128, 192, … : the directory's size does not change here.
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if listed < 16 || listed > 30 {
		t.Errorf("listed %d times in 1024 rounds", listed)
	}
}

// A process that cannot be looked into is an error, but no reason to forget it, and
// must not keep the clients of others from being found.
func TestProcessThatCannotBeRead(t *testing.T) {
	k, m := newKernel(t)
	both := []int{7, 8}
	k.row(1, Established)
	k.row(2, Established)
	k.row(3, Established)
	k.fd(7, 4, 1)
	k.fd(8, 4, 2)
	k.fd(7, 5, 3)
	expect(t, m, both)

	// A name in place of the directory gives ENOTDIR, for root too.
	hide := func() {
		if err := os.Rename(k.root+"/7", k.root+"/hidden"); err != nil {
			t.Fatal(err)
		}
		write(t, k.root, "7/fd", "")
	}
	show := func() {
		if err := os.RemoveAll(k.root + "/7"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(k.root+"/hidden", k.root+"/7"); err != nil {
			t.Fatal(err)
		}
	}
	hide()
	k.row(1, CloseWait)
	k.row(2, CloseWait)
	k.noRow(3)
	got, err := m.Poll(nil, port80, both)
	if err == nil {
		t.Error("no error")
	}
	check(t, got, []Lost{lost(8, 2, Closed)})
	m.checkBooks(t)
	show()
	expect(t, m, both, lost(7, 1, Closed), lost(7, 3, Reset))
	expect(t, m, both)

	// Gone before it could be told, but it was seen that the client closed.
	k.row(4, Established)
	k.fd(7, 6, 4)
	expect(t, m, both)
	hide()
	k.row(4, CloseWait)
	if _, err := m.Poll(nil, port80, both); err == nil {
		t.Error("no error")
	}
	show()
	k.noRow(4)
	expect(t, m, both, lost(7, 4, Closed))
}

// Reading a link takes no descriptor of our own, listing a directory does; so when there
// are none left, a socket may seem closed that was only moved.
func TestOutOfDescriptors(t *testing.T) {
	k, m := newKernel(t)
	k.row(1, Established)
	k.fd(7, 4, 1)
	expect(t, m, []int{7})
	k.noFD(7, 4)
	k.fd(7, 5, 1)
	k.noRow(1)

	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	got, err := m.Poll(nil, port80, []int{7})
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) || len(got) > 0 {
		t.Fatal(got, err)
	}
	expect(t, m, []int{7}, lost(7, 1, Reset))
}
