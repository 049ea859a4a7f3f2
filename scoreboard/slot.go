package scoreboard

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Slot is a child's end of the file: its own slot, mapped, and a view of the others' states.
//
// Its methods may be called on any goroutine, but those that store more than one word (SetState, SetWork, Show) by one at a
// time: the caller serializes them. If somebody has cut the file short they do nothing, and what they look for is not there,
// until the parent has mended it.
type Slot struct {
	mem   []byte
	slot  int
	slots int

	record       [SlotSize - sJob]byte // the last one that was shown
	client, text string                // of it
}

// Attach maps the file behind fd for the child that fills the given slot. The caller keeps or closes fd as it likes.
func Attach(fd, slot int) (*Slot, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("scoreboard: %w", os.NewSyscallError("fstat", err))
	}
	head := make([]byte, HeaderSize)
	if _, err := unix.Pread(fd, head, 0); err != nil {
		return nil, fmt.Errorf("scoreboard: %w", os.NewSyscallError("pread", err))
	}
	slots, err := check(head, st.Size)
	if err != nil {
		return nil, err
	}
	if slot < 0 || slot >= slots {
		return nil, fmt.Errorf("scoreboard: no slot %d, the board has %d", slot, slots)
	}
	// Without the ring, which is no business of a child's.
	mem, err := unix.Mmap(fd, 0, offset(slots), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("scoreboard: %w", os.NewSyscallError("mmap", err))
	}
	return &Slot{mem: mem, slot: slot, slots: slots}, nil
}

// word returns the 64-bit word at an offset of this child's slot. Mappings are page-aligned and all words lie on
// multiples of eight, so the access is atomic on every Linux port of Go.
func (s *Slot) word(off int) *atomic.Uint64 { return s.at(offset(s.slot) + off) }

// put stores a word without a barrier, which is half of what an atomic store costs. It is for a word that is stored before another
// one: that atomic store brings it with it.
func (s *Slot) put(off int, v uint64) {
	p := s.word(off)
	if unsafe.Sizeof(uintptr(0)) < 8 { // it would be two stores
		p.Store(v)
		return
	}
	*(*uint64)(unsafe.Pointer(p)) = v
}

func (s *Slot) at(off int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&s.mem[off]))
}

// survive is deferred by whatever touches the mapping, and done is set when it has. Where the file does not reach any more the
// kernel sends SIGBUS, which ends a process unless the goroutine has asked for a panic instead.
func (s *Slot) survive(done *bool, before bool) {
	debug.SetPanicOnFault(before)
	if *done {
		return
	}
	if r := recover(); r != nil {
		fault, ok := r.(interface{ Addr() uintptr })
		begin := uintptr(unsafe.Pointer(&s.mem[0]))
		if !ok || fault.Addr() < begin || fault.Addr() >= begin+uintptr(len(s.mem)) {
			panic(r)
		}
	}
}

// SetState says what the child is doing, since now.
func (s *Slot) SetState(st State, now time.Time) {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	s.put(sSince, uint64(now.UnixNano()))
	s.word(sState).Store(uint64(st))
	done = true
}

// Blank reports whether what the child says has been lost: somebody has cut the file short, and it has been mended since.
func (s *Slot) Blank() bool {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	blank := s.word(sState).Load() == 0
	done = true
	return blank
}

// A Work is all that a child says of its work.
type Work struct {
	State   State
	Since   time.Time // since when it is in this state
	Running int       // jobs
	Done    uint64    // jobs that have ended
	Job     Record    // the oldest that runs; zero: none does
}

// SetWork says all of it.
//
// A child that has said so of a job other than the revoked one and then finds no revocation can go on: the parent
// writes the revocation first and reads the serial after, so one of the two sees the other.
func (s *Slot) SetWork(w Work) {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	s.put(sRunning, uint64(w.Running))
	s.put(sDone, w.Done)
	s.word(sSerial).Store(w.Job.Serial)
	s.show(&w.Job)
	s.put(sSince, uint64(w.Since.UnixNano()))
	s.word(sState).Store(uint64(w.State))
	done = true
}

// Skip counts a client that had left before it was accepted.
func (s *Slot) Skip() {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	s.word(sSkipped).Add(1)
	done = true
}

// Refuse counts a client that was refused.
func (s *Slot) Refuse() {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	s.word(sRefused).Add(1)
	done = true
}

// A Duty is what a child does that has nothing to do, where they take turns in waiting for connections.
type Duty uint64

const (
	DutyNone Duty = iota // it has something to do, or waits whatever the others do
	DutyOn               // it waits for connections
	DutyOff              // it rests until it is called
)

// SetDuty says what a child does that has nothing to do.
//
// Who says so before it looks what the others do, and does what it has said only if it finds enough of them, is seen by those who leave
// their duty and look after that, or sees that they have.
func (s *Slot) SetDuty(d Duty) {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	s.word(sDuty).Store(uint64(d))
	done = true
}

// Duties are how many other children, of those that are fed by the listeners and not asked to leave, wait for connections, rest until they
// are called, and do neither.
type Duties struct{ On, Off, None int }

// used is how many slots there are to look at: behind them no child is, says the parent.
func (s *Slot) used() int {
	if n := s.at(hUsed).Load(); n > 0 && n < uint64(s.slots) {
		return int(n)
	}
	return s.slots // all of them may be, or an older parent says nothing of it, or it is nonsense
}

// Duties looks what the others do. If the file has been cut short before the last of them there are none.
func (s *Slot) Duties() (all Duties) {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	var found Duties
	for i := range s.used() {
		base := offset(i)
		p := Phase(s.at(base + sPhase).Load())
		if i == s.slot || p != PhaseStarting && p != PhaseServing || Kind(s.at(base+sKind).Load()) != Serve {
			continue
		}
		switch Duty(s.at(base + sDuty).Load()) {
		case DutyOn:
			found.On++
		case DutyOff:
			found.Off++
		default:
			found.None++
		}
	}
	done = true
	return found
}

// Revoked returns the serial of the job whose client has left, 0: none.
func (s *Slot) Revoked() uint64 {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	serial := s.word(sRevoked).Load()
	done = true
	return serial
}

// A Record describes the job that a child works on.
type Record struct {
	Serial  uint64
	Started time.Time
	// Deadline is when its time is over, of CLOCK_MONOTONIC; 0: never.
	Deadline time.Duration
	Inode    uint64 // inode of the connection, 0: a job without one
	Client   string // cut at 88 bytes
	Text     string // cut at 192 bytes
}

// Show writes the record of the job the child works on; the zero Record says that there is none, whatever stands in its other words.
//
// The sequence number is odd while the record is being written, and every word of it is stored atomically: a reader
// sees the old record or the new one, and a writer that dies in between leaves an odd number and no lock.
//
// Words that stand there already are not stored: an atomic store costs more than all else, and one job of a client is much like the
// next.
func (s *Slot) Show(r Record) {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	s.show(&r)
	done = true
}

func (s *Slot) show(r *Record) {
	seq := s.word(sSeq)
	n := seq.Load()
	torn := n&1 != 0
	if r.Serial == 0 && !torn { // one word is never half written
		if w := s.word(sJob); w.Load() != 0 {
			w.Store(0)
		}
		return
	}
	s.compose(r)
	there := s.mem[offset(s.slot)+sJob : offset(s.slot)+SlotSize]
	n &^= 1
	end := len(s.record)
	if texts := sClient - sJob; bytes.Equal(s.record[texts:], there[texts:]) {
		end = texts
	}
	for off := 0; off < end; off += 8 {
		w, v := s.word(sJob+off), order.Uint64(s.record[off:])
		if w.Load() == v {
			continue
		}
		if !torn {
			torn = true
			seq.Store(n | 1)
		}
		w.Store(v)
	}
	if torn {
		seq.Store(n + 2)
	}
}

// compose makes what is to stand in the file of a record.
func (s *Slot) compose(r *Record) {
	if r.Serial == 0 {
		s.record, s.client, s.text = [SlotSize - sJob]byte{}, "", ""
		return
	}
	rec := s.record[:]
	order.PutUint64(rec[0:], r.Serial)
	order.PutUint64(rec[sStarted-sJob:], uint64(r.Started.UnixNano()))
	order.PutUint64(rec[sInode-sJob:], r.Inode)
	order.PutUint64(rec[sLimit-sJob:], uint64(r.Deadline))
	if r.Client != s.client {
		putText(rec[sClient-sJob:sClient-sJob+clientLen], r.Client)
		s.client = r.Client
	}
	if r.Text != s.text {
		putText(rec[sText-sJob:], r.Text)
		s.text = r.Text
	}
}

// Attention reports whether a child that has just said that it is busy is to ring.
//
// Each child says so before it looks, so of several that become busy at once the last one sees how few are left.
//
// If the file has been cut short before the last of them it is to ring: the parent mends it when it wakes.
func (s *Slot) Attention() (ring bool) {
	done := false
	defer s.survive(&done, debug.SetPanicOnFault(true))
	ring = true // what is returned after a fault
	v := s.at(hAttention).Load()
	ring = v&attentionBusy != 0 || !s.spare(int(uint32(v)))
	done = true
	return ring
}

// spare reports whether at least n children could take work now or soon: idle or starting, and not asked to leave.
func (s *Slot) spare(n int) bool {
	for i, used := 0, s.used(); i < used && n > 0; i++ {
		base := offset(i)
		if Kind(s.at(base+sKind).Load()) != Serve {
			continue
		}
		if p := Phase(s.at(base + sPhase).Load()); p != PhaseStarting && p != PhaseServing {
			continue
		}
		if st := State(s.at(base + sState).Load()); st == Idle || st == Starting {
			n--
		}
	}
	return n <= 0
}

// Detach removes the mapping; the Slot must not be used afterwards.
func (s *Slot) Detach() error { return unix.Munmap(s.mem) }
