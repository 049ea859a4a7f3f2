package scoreboard

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// Bear fills the parent's part of a slot for a child that is about to be started, and clears the child's part.
func (b *Board) Bear(slot int, kind Kind, generation uint64, cause string, now time.Time) error {
	s := make([]byte, SlotSize)
	order.PutUint64(s[sGeneration:], generation)
	order.PutUint64(s[sBorn:], uint64(now.UnixNano()))
	order.PutUint64(s[sPhase:], uint64(PhaseStarting))
	order.PutUint64(s[sState:], uint64(Starting))
	order.PutUint64(s[sSince:], uint64(now.UnixNano()))
	order.PutUint64(s[sKind:], uint64(kind))
	putText(s[sCause:sCause+causeLen], cause)
	if err := b.reach(slot); err != nil {
		return err
	}
	return b.write(s, offset(slot))
}

// SetPID writes the process id of the child that fills the slot.
func (b *Board) SetPID(slot, pid int) error { return b.writeWord(offset(slot)+sPID, uint64(pid)) }

// SetPhase writes where the parent sees the child in its life.
func (b *Board) SetPhase(slot int, p Phase) error {
	if err := b.reach(slot); err != nil {
		return err
	}
	return b.writeWord(offset(slot)+sPhase, uint64(p))
}

// SetRevoked names the job whose client has left, 0 to take that back. The child looks at the word
// when a job has ended, before it takes another.
func (b *Board) SetRevoked(slot int, serial uint64) error {
	return b.writeWord(offset(slot)+sRevoked, serial)
}

// Free empties the slot of a child that has been reaped, whatever state its death left the slot in.
func (b *Board) Free(slot int) error {
	if err := b.write(make([]byte, SlotSize), offset(slot)); err != nil {
		return err
	}
	return b.setUsed(usedOf(b.mine, int(order.Uint64(b.mine[hUsed:]))))
}

// reach says that a slot is in use, before it is. Children need not look at those behind the last, of which there are many: room for old
// generations, and for a pool that grows.
func (b *Board) reach(slot int) error {
	return b.setUsed(max(uint64(slot+1), order.Uint64(b.mine[hUsed:])))
}

func (b *Board) setUsed(n uint64) error {
	if n == order.Uint64(b.mine[hUsed:]) {
		return nil
	}
	return b.writeWord(hUsed, n)
}

// usedOf is 1 + the last of the first n slots that is not free.
func usedOf(mine []byte, n int) uint64 {
	for n > 0 && Phase(order.Uint64(mine[offset(n-1)+sPhase:])) == PhaseFree {
		n--
	}
	return uint64(n)
}

// A Hint is what a child says of itself in the words that need no lock. It is about that child alone and may be a lie.
type Hint struct {
	State   State
	Serial  uint64 // the oldest job that runs, 0: none
	Done    uint64
	Running uint64
	Skipped uint64
	Refused uint64
	Job     uint64 // the job that the record describes, 0: none, or the record was just being written
	Inode   uint64 // inode of that job's socket
	// Deadline is when that job's time is over, of CLOCK_MONOTONIC; 0: never.
	Deadline time.Duration
}

// Look reads what the child in a slot says of itself.
func (b *Board) Look(slot int) (Hint, error) {
	if b.buf == nil {
		b.buf = make([]byte, sClient)
	}
	h, err := look(b.f, int64(offset(slot)), b.buf)
	if err != nil {
		return Hint{}, fmt.Errorf("scoreboard: %w", err)
	}
	return h, nil
}

// look reads the slot at an offset up to the texts; s has room for that.
func look(f io.ReaderAt, off int64, s []byte) (Hint, error) {
	if _, err := f.ReadAt(s, off); err != nil {
		return Hint{}, err
	}
	h := Hint{
		State:   State(order.Uint64(s[sState:])),
		Serial:  order.Uint64(s[sSerial:]),
		Done:    order.Uint64(s[sDone:]),
		Running: order.Uint64(s[sRunning:]),
		Skipped: order.Uint64(s[sSkipped:]),
		Refused: order.Uint64(s[sRefused:]),
	}
	job, inode, limit := order.Uint64(s[sJob:]), order.Uint64(s[sInode:]), order.Uint64(s[sLimit:])
	if job == 0 || order.Uint64(s[sSeq:])%2 != 0 {
		return h, nil
	}
	// The child may have gone from one job to the next between two of these words. One job's serial with the other's inode
	// would hit the wrong one, so the record has to be the same when it is read again.
	var again [sClient - sSeq]byte
	if _, err := f.ReadAt(again[:], off+sSeq); err != nil {
		return Hint{}, err
	}
	if bytes.Equal(again[:], s[sSeq:]) {
		h.Job, h.Inode, h.Deadline = job, inode, time.Duration(limit)
	}
	return h, nil
}

// Child returns what the slot shows, as a reader sees it: ok is false if it is free. Of a child that has been reaped it is the
// last that it has said, and no more to be trusted than before.
func (b *Board) Child(slot int) (c Child, ok bool, err error) {
	if c, ok, err = readChild(b.f, slot); err != nil {
		err = fmt.Errorf("scoreboard: %w", short(err))
	}
	return c, ok, err
}
