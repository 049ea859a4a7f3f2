package netmon

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Who holds what, in which order of processes, and that one who cannot be read hides nobody else.
func TestHoldersOfAll(t *testing.T) {
	a, b := lend(t, "tcp", 3), lend(t, "unix", 2)
	// This process holds one of them as well, twice.
	own, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(own)
	again, err := unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(again)
	var st unix.Stat_t
	if err := unix.Fstat(own, &st); err != nil {
		t.Fatal(err)
	}
	held, err := Holders(DefaultFS, []int{b.pid, a.pid, 1 << 22, os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*lent{a, b} {
		for i, inode := range l.inodes {
			if held[inode] != (Holder{l.pid, firstLent + i}) {
				t.Errorf("socket %d: %+v, want descriptor %d of %d", inode, held[inode], firstLent+i, l.pid)
			}
		}
	}
	if held[st.Ino] != (Holder{os.Getpid(), min(own, again)}) {
		t.Errorf("own socket: %+v", held[st.Ino])
	}
	k, _ := newKernel(t)
	k.fd(8, 3, 4711)
	write(t, k.root, "7/fd", "") // a name in place of the directory gives ENOTDIR, for root too
	held, err = Holders(FS(k.root), []int{7, 8})
	if err == nil || held[4711] != (Holder{8, 3}) {
		t.Errorf("with one that cannot be read: %v, %v", held, err)
	}
}
