package daemon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// semaphoreName is the file in the run directory that tells the key of the semaphore. A semaphore outlives all who use it: when
// a parent has been killed with its children, the next one finds the semaphore by its key, and removes it.
const semaphoreName = "semaphore"

// A semaphoreSet is the parent's side of a System V semaphore that children take and give back.
type semaphoreSet struct {
	id   int
	path string
}

func (p *Parent) openSemaphore(h handedTurns) (*semaphoreSet, error) {
	s := &semaphoreSet{id: h.Semaphore, path: filepath.Join(p.cfg.RunDir, semaphoreName)}
	if p.handed != nil {
		return s, nil
	}
	removeSemaphore(s.path)
	for {
		key := rand.Int32N(1<<31-2) + 1
		// The key first: one that belongs to no semaphore does no harm.
		if err := os.WriteFile(s.path, []byte(strconv.Itoa(int(key))+"\n"), 0o600); err != nil {
			return nil, err
		}
		id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), 1, ipcCreat|ipcExcl|0o600)
		if errno == unix.EEXIST { // somebody else's
			continue
		}
		if errno != 0 {
			os.Remove(s.path)
			return nil, os.NewSyscallError("semget", errno)
		}
		s.id = int(id)
		if err := s.prepare(p.identity); err != nil {
			s.close()
			return nil, err
		}
		return s, nil
	}
}

// What linux/ipc.h and linux/sem.h say. None of it is in package unix.
const (
	ipcCreat  = 0o1000
	ipcExcl   = 0o2000
	ipcNowait = 0o4000
	ipcRmid   = 0
	ipcSet    = 1
	ipcStat   = 2
	semSetval = 16
	semUndo   = 0x1000
)

// A semid is a struct semid_ds, of which only the begin of the first member is the same on all machines: key, uid, gid, cuid.
type semid [256]byte

func (s *semid) owner(uid, gid uint32) {
	binary.NativeEndian.PutUint32(s[4:], uid)
	binary.NativeEndian.PutUint32(s[8:], gid)
}

func (s *semid) creator() int { return int(binary.NativeEndian.Uint32(s[12:])) }

// prepare makes it one that can be taken, by children of another user, too.
func (s *semaphoreSet) prepare(id *identity) error {
	if _, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(s.id), 0, semSetval, 1, 0, 0); errno != 0 {
		return os.NewSyscallError("semctl", errno)
	}
	if id == nil {
		return nil
	}
	var ds semid
	if err := semctl(s.id, ipcStat, &ds); err != nil {
		return err
	}
	ds.owner(id.uid, id.gid)
	return semctl(s.id, ipcSet, &ds)
}

func semctl(id, cmd int, ds *semid) error {
	_, _, errno := unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), 0, uintptr(cmd), uintptr(unsafe.Pointer(ds)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("semctl", errno)
	}
	return nil
}

// removeSemaphore removes what a parent has left behind that could not. One that somebody else has made under that key stays.
func removeSemaphore(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	key, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || key <= 0 {
		return
	}
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), 0, 0)
	var ds semid
	if errno == 0 && semctl(int(id), ipcStat, &ds) == nil && ds.creator() == os.Geteuid() {
		semctl(int(id), ipcRmid, &ds)
	}
}

func (s *semaphoreSet) forChild() (fds []int, number uint64, err error) {
	return nil, uint64(s.id), nil
}

func (s *semaphoreSet) hand() handedTurns { return handedTurns{Semaphore: s.id} }

func (s *semaphoreSet) close() {
	semctl(s.id, ipcRmid, new(semid))
	os.Remove(s.path)
}

// A semaphore is one as a child sees it, by its number.
type semaphore int

// acquire takes it so that the kernel gives it back when this process ends, however it does (SEM_UNDO).
func (s semaphore) acquire(wait bool) error {
	flags := int16(semUndo)
	if !wait {
		flags |= ipcNowait
	}
	return s.op(-1, flags)
}

func (s semaphore) release() error { return s.op(1, semUndo) }

func (s semaphore) op(by, flags int16) error {
	sembuf := struct {
		num       uint16
		op, flags int16
	}{0, by, flags}
	for {
		// Without a time limit it is semop(2), which is not everywhere a system call of its own.
		_, _, errno := unix.Syscall6(sysSemop, uintptr(s), uintptr(unsafe.Pointer(&sembuf)), 1, 0, 0, 0)
		switch {
		case errno == 0:
			return nil
		case errors.Is(errno, unix.EINTR):
		case errors.Is(errno, unix.EIDRM), errors.Is(errno, unix.EINVAL):
			return fmt.Errorf("the semaphore has been removed: %w", os.NewSyscallError("semop", errno))
		default:
			return os.NewSyscallError("semop", errno)
		}
	}
}
