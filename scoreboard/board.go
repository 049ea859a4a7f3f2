package scoreboard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// An Identity says whose board it is. It is written once, when the file is made.
type Identity struct {
	Name     string `json:"name"`        // the daemon's name
	PID      int    `json:"pid"`         // the parent
	Start    uint64 `json:"start_ticks"` // field 22 of /proc/PID/stat
	BootID   string `json:"boot_id"`     // /proc/sys/kernel/random/boot_id
	Program  string `json:"program"`     // path of the program
	PIDFile  string `json:"pid_file"`
	ErrorLog string `json:"error_log"`
}

// A Status is what the parent says of the daemon as a whole.
type Status struct {
	State      string    `json:"state"`              // starting, serving, reloading, upgrading, draining, drained, degraded, stopping
	Generation uint64    `json:"generation"`         // the generation that serves
	Rolling    uint64    `json:"rolling,omitzero"`   // the generation being rolled in, or that serves on probation; 0: none
	Want       int       `json:"want"`               // children wanted
	Born       uint64    `json:"born"`               // children started so far
	Died       uint64    `json:"died"`               // children that ended without being asked
	Killed     uint64    `json:"killed"`             // children the parent killed
	Lost       uint64    `json:"lost"`               // clients that left a running job
	Done       uint64    `json:"done"`               // jobs done by children that are gone
	Skipped    uint64    `json:"skipped"`            // clients that had left before they were accepted, by children that are gone
	Refused    uint64    `json:"refused"`            // clients that were refused, by children that are gone
	ReloadAt   time.Time `json:"reload_at,omitzero"` // when the last reload ended, zero: never
	ReloadOK   bool      `json:"reload_ok"`          // whether it succeeded
	Reload     string    `json:"reload,omitzero"`    // who asked for it, or why it failed
	Trouble    string    `json:"trouble,omitzero"`   // what has failed, if the state is degraded
}

// A Board is the parent's end of the file. It is not safe for concurrent use, but for Record: one goroutine owns it.
type Board struct {
	f      *os.File
	path   string
	slots  int
	buf    []byte // scratch for Look
	events uint64 // sequence number of the last one
	mine   []byte // what the parent has written before the ring
	blocks int64  // that the file has if nobody has cut it
}

// Create makes the file at path, with all its blocks allocated, and puts it in the place of an older one.
//
// The file appears whole: it is written under a temporary name, created exclusively with mode 0600, and renamed. The
// caller holds the lock that keeps a second daemon out of the directory. slots is at most MaxSlots.
func Create(path string, id Identity, slots int) (*Board, error) {
	if slots < 1 || slots > MaxSlots {
		return nil, fmt.Errorf("scoreboard: %d slots asked for, 1 to %d are possible", slots, MaxSlots)
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("scoreboard: %w", err)
	}
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("scoreboard: %w", err)
	}
	b := &Board{f: f, path: path, slots: slots, mine: make([]byte, offset(slots))}
	// Allocated now, because a child that writes into a hole on a full disk dies of SIGBUS.
	if err := fallocate(int(f.Fd()), int64(size(slots))); err != nil {
		return nil, b.abandon(tmp, err)
	}
	if err := b.write(header(id, slots), 0); err != nil {
		return nil, b.abandon(tmp, err)
	}
	st, err := b.allocated()
	if err != nil {
		return nil, b.abandon(tmp, err)
	}
	b.blocks = st.Blocks
	if err := os.Rename(tmp, path); err != nil {
		return nil, b.abandon(tmp, err)
	}
	return b, nil
}

// Adopt takes over the file that this very process had open before it replaced itself with exec(2): its descriptor, which is
// close-on-exec from here on. Whose it is, how many slots it has and the number of the last event are not taken from a file that
// others can write to: what they have made of its head is put right. The caller owns the descriptor as long as there is an error.
func Adopt(path string, fd int, id Identity, slots int, events uint64) (*Board, error) {
	unix.CloseOnExec(fd)
	if slots < 1 || slots > MaxSlots {
		return nil, fmt.Errorf("scoreboard: %d slots handed over, 1 to %d are possible", slots, MaxSlots)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("scoreboard: %w", os.NewSyscallError("fstat", err))
	}
	mine := make([]byte, offset(slots))
	if _, err := unix.Pread(fd, mine, 0); err != nil { // what is not there any more is mended
		return nil, fmt.Errorf("scoreboard: %w", os.NewSyscallError("pread", err))
	}
	head := header(id, slots)
	if there := mine[:HeaderSize]; !sameHead(there, head) {
		copy(there, head)
	}
	order.PutUint64(mine[hUsed:], usedOf(mine, slots))
	unix.Pwrite(fd, mine[hUsed:hUsed+8], hUsed) // if it fails it is mended
	b := &Board{f: os.NewFile(uintptr(fd), path), path: path, slots: slots, events: events, mine: mine, blocks: st.Blocks}
	return b, nil
}

// sameHead reports whether two headers say the same of the layout, and of whose board it is but for when it was made.
func sameHead(a, b []byte) bool {
	return bytes.Equal(a[:hCreated], b[:hCreated]) && bytes.Equal(a[hEventSize:hUsed], b[hEventSize:hUsed])
}

func (b *Board) abandon(tmp string, err error) error {
	b.f.Close()
	os.Remove(tmp)
	return fmt.Errorf("scoreboard: %s: %w", tmp, err)
}

// fallocate tries again when a signal comes in between: on tmpfs any signal ends it, and a Go process sends itself many.
func fallocate(fd int, n int64) error {
	for {
		if err := unix.Fallocate(fd, 0, 0, n); err != unix.EINTR {
			return os.NewSyscallError("fallocate", err)
		}
	}
}

func size(slots int) int { return offset(slots) + Events*EventSize }

func header(id Identity, slots int) []byte {
	h := make([]byte, HeaderSize)
	copy(h[hMagic:], Magic)
	order.PutUint32(h[hVersion:], Version)
	order.PutUint32(h[hHeaderSize:], HeaderSize)
	order.PutUint32(h[hSlotSize:], SlotSize)
	order.PutUint32(h[hSlots:], uint32(slots))
	order.PutUint32(h[hEventSize:], EventSize)
	order.PutUint32(h[hEvents:], Events)
	order.PutUint64(h[hPID:], uint64(id.PID))
	order.PutUint64(h[hStart:], id.Start)
	order.PutUint64(h[hCreated:], uint64(time.Now().UnixNano()))
	putText(h[hBootID:hBootID+bootLen], id.BootID)
	putText(h[hState:hState+stateLen], "starting")
	putText(h[hName:hName+nameLen], id.Name)
	putText(h[hProgram:hProgram+programLen], id.Program)
	putText(h[hPIDFile:hPIDFile+pathLen], id.PIDFile)
	putText(h[hErrorLog:hErrorLog+pathLen], id.ErrorLog)
	return h
}

// FD returns the descriptor that is handed to the children.
func (b *Board) FD() int { return int(b.f.Fd()) }

// Slots returns the number of slots.
func (b *Board) Slots() int { return b.slots }

// SetListen writes the addresses that the daemon listens on; see Snapshot.Addresses.
func (b *Board) SetListen(addresses string) error {
	field := make([]byte, listenLen)
	putText(field, addresses)
	return b.write(field, hListen)
}

// SetStatus writes the state of the daemon as a whole, stamped with now.
func (b *Board) SetStatus(s Status, now time.Time) error {
	h := make([]byte, hStatusEnd-hStatus)
	put := func(off int, v uint64) { order.PutUint64(h[off-hStatus:], v) }
	put(hUpdated, uint64(now.UnixNano()))
	put(hGeneration, s.Generation)
	put(hRolling, s.Rolling)
	put(hWant, uint64(s.Want))
	put(hBorn, s.Born)
	put(hDied, s.Died)
	put(hKilled, s.Killed)
	put(hLost, s.Lost)
	put(hDone, s.Done)
	put(hSkipped, s.Skipped)
	put(hRefused, s.Refused)
	if !s.ReloadAt.IsZero() {
		put(hReloadAt, uint64(s.ReloadAt.UnixNano()))
	}
	if s.ReloadOK {
		put(hReloadOK, 1)
	}
	putText(h[hState-hStatus:hState-hStatus+stateLen], s.State)
	putText(h[hReload-hStatus:hReload-hStatus+reloadLen], s.Reload)
	putText(h[hTrouble-hStatus:hTrouble-hStatus+troubleLen], s.Trouble)
	return b.write(h, hStatus)
}

// Attention says when a child that becomes busy is to ring.
type Attention struct {
	Busy  bool // whenever it does
	Below int  // if fewer than this number of children are left that can take work
}

// SetAttention tells the children when to ring.
//
// A parent that wants to rest while nobody is busy sets it, looks once more, and may then sleep: a child that became
// busy before that look is seen by it, and one that does so later sees the word and rings.
func (b *Board) SetAttention(a Attention) error {
	v := uint64(uint32(a.Below))
	if a.Busy {
		v |= attentionBusy
	}
	return b.writeWord(hAttention, v)
}

// Remove takes the file away, if the name still leads to this very file, and closes it.
func (b *Board) Remove() error {
	defer b.f.Close()
	var mine, there unix.Stat_t
	if err := unix.Fstat(int(b.f.Fd()), &mine); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if unix.Lstat(b.path, &there) != nil || there.Ino != mine.Ino || there.Dev != mine.Dev {
		return nil
	}
	return os.Remove(b.path)
}

func offset(slot int) int { return HeaderSize + slot*SlotSize }

func (b *Board) write(p []byte, off int) error {
	b.keep(p, off)
	if _, err := b.f.WriteAt(p, int64(off)); err != nil {
		return fmt.Errorf("scoreboard: %w", err)
	}
	return nil
}

func (b *Board) writeWord(off int, v uint64) error {
	var w [8]byte
	order.PutUint64(w[:], v)
	return b.write(w[:], off)
}
