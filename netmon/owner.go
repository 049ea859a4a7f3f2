package netmon

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// fdDir reads the directory /proc/PID/fd of one process after another
// (proc_pid_fd(5)), with buffers of its own.
type fdDir struct {
	fs    string
	name  []byte
	dents []byte
	link  [64]byte // "socket:[18446744073709551615]" is 29 bytes
}

func newFDDir(fs FS) *fdDir {
	return &fdDir{fs: fs.path(""), dents: make([]byte, 4096)}
}

// errGone is returned for a process that has ended, even if it is not reaped yet.
var errGone = errors.New("the process is gone")

// open opens the directory of pid; the caller closes it. It also returns how many
// descriptors the process has open, or 0 if the kernel does not tell (before 6.2,
// fs/proc/fd.c, proc_readfd_count).
func (d *fdDir) open(pid int) (dir int, count int64, err error) {
	dir, err = open(d.path(pid, "/fd"), unix.O_DIRECTORY)
	if err != nil {
		return -1, 0, d.explain("open", pid, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		unix.Close(dir)
		return -1, 0, d.explain("stat", pid, err)
	}
	return dir, st.Size, nil
}

// walk calls visit for each descriptor of an open directory, until visit returns
// false. It passes the descriptor's number, and its name for use with inode.
func (d *fdDir) walk(dir, pid int, visit func(fd int, name []byte) bool) error {
	for {
		n, err := unix.ReadDirent(dir, d.dents)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return d.explain("list", pid, err)
		}
		if n <= 0 {
			return nil
		}
		// struct linux_dirent64: inode 8 bytes, offset 8, length of the record 2,
		// type 1, name ending with NUL.
		for b := d.dents[:n]; len(b) > 19; {
			size := int(binary.NativeEndian.Uint16(b[16:]))
			if size <= 19 || size > len(b) {
				break
			}
			name := b[19:size]
			b = b[size:]
			if fd, ok := number(name); ok && !visit(fd, name) {
				return nil
			}
		}
	}
}

// inodeAt returns the inode of the socket that name in the open directory dir stands
// for, or 0 if it is no socket, or closed by now.
func (d *fdDir) inodeAt(dir, pid int, name []byte) (uint64, error) {
	n, err := readlink(dir, name, d.link[:])
	return d.inode(pid, n, err)
}

// inodeOf is inodeAt for a single descriptor.
func (d *fdDir) inodeOf(pid, fd int) (uint64, error) {
	name := d.path(pid, "/fd/")
	name = strconv.AppendInt(name[:len(name)-1], int64(fd), 10)
	d.name = append(name, 0)
	n, err := readlink(unix.AT_FDCWD, d.name, d.link[:])
	return d.inode(pid, n, err)
}

// inode judges what readlink has left in d.link.
func (d *fdDir) inode(pid, n int, err error) (uint64, error) {
	if err != nil {
		err = d.explain("readlink", pid, err)
		if err == errGone {
			return 0, nil // or the descriptor is: all the same here
		}
		return 0, err
	}
	return socketInode(d.link[:n]), nil
}

// path returns /proc/PID and what follows, ending with NUL, in memory that the next
// call uses again.
func (d *fdDir) path(pid int, follows string) []byte {
	b := append(d.name[:0], d.fs...)
	b = strconv.AppendInt(b, int64(pid), 10)
	b = append(b, follows...)
	d.name = append(b, 0)
	return d.name
}

// explain makes an error that says what was tried. It returns errGone, as it is, when
// the reason is that the process has ended.
func (d *fdDir) explain(op string, pid int, err error) error {
	switch err {
	case unix.ENOENT, unix.ESRCH:
		return errGone
	case unix.EACCES, unix.EPERM:
		// The directory of a process that has no memory any more belongs to root,
		// whoever it was (fs/proc/base.c, task_dump_owner), so its own parent may be
		// refused.
		if d.ending(pid) {
			return errGone
		}
	}
	return fmt.Errorf("netmon: %s %s%d/fd: %w", op, d.fs, pid, err)
}

// ending reports whether pid is on its way out, or has ended and waits for its parent to
// notice, or is not there at all.
func (d *fdDir) ending(pid int) bool {
	fd, err := open(d.path(pid, "/stat"), 0)
	if err != nil {
		return err == unix.ENOENT || err == unix.ESRCH
	}
	defer unix.Close(fd)
	var buf [256]byte
	n, err := read(fd, buf[:])
	if err != nil {
		return err == unix.ESRCH
	}
	return endingStat(buf[:n])
}

// endingStat reports whether the text of /proc/PID/stat is that of a process that ends:
// "PID (name) STATE ppid pgrp session tty tpgid flags …", where the name may itself hold
// brackets. On its way out a process still runs, but has the flag PF_EXITING.
func endingStat(text []byte) bool {
	const exiting = 0x4
	i := bytes.LastIndexByte(text, ')')
	if i < 0 {
		return false
	}
	for field, rest := 0, text[i+1:]; ; field++ {
		rest = bytes.TrimLeft(rest, " ")
		var word []byte
		word, rest, _ = bytes.Cut(rest, []byte(" "))
		switch {
		case len(word) == 0:
			return false
		case field == 0 && (word[0] == 'Z' || word[0] == 'X'):
			return true
		case field == 6:
			flags, err := strconv.ParseUint(string(word), 10, 32)
			return err == nil && flags&exiting != 0
		}
	}
}

// socketInode returns n for "socket:[n]", and 0 for anything else.
func socketInode(link []byte) uint64 {
	digits, ok := bytes.CutPrefix(link, []byte("socket:["))
	if !ok {
		return 0
	}
	digits, ok = bytes.CutSuffix(digits, []byte("]"))
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// number returns the number that name, ending with NUL, spells.
func number(name []byte) (n int, ok bool) {
	for i, c := range name {
		switch {
		case c == 0:
			return n, i > 0
		case c < '0' || c > '9' || n > 1<<26: // the kernel's limit is 2^26 or so
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return 0, false
}
