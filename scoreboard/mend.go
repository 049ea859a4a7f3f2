package scoreboard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A file that children can write to they can cut short, too: a mapping wants a descriptor that can be written to, and whoever has
// one may truncate. The parent cannot be hurt by that, since it maps nothing; children get a fault from the next store, and
// Slot survives it. They can write over the header as well, from which the parent takes nothing: only readers do, and children, when they
// attach and when they look at the others. What is left is to make the file whole again, so that these understand it.

// allocated returns the size and the number of blocks that the file has.
func (b *Board) allocated() (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(b.f.Fd()), &st)
	return st, os.NewSyscallError("fstat", err)
}

// keep notes what the parent has written, for Mend. What belongs to children, and the ring, is theirs to lose.
func (b *Board) keep(p []byte, off int) {
	if off >= b.ring() {
		return
	}
	if off >= HeaderSize {
		at := (off - HeaderSize) % SlotSize
		p = p[:max(min(len(p), parentPart-at), 0)]
	}
	copy(b.mine[off:], p)
}

// Mend makes the file whole again if somebody has cut it short, or has written over what its header says of the layout, and reports
// whether that was so. What the parent has written is there again; what children had said behind the cut, and events, are lost.
//
// Call it now and then, and before a child is started, which would find no scoreboard else.
func (b *Board) Mend() (hurt bool, err error) {
	st, err := b.allocated()
	if err != nil {
		return false, fmt.Errorf("scoreboard: %w", err)
	}
	// One that was cut and that the parent has written to since may have its size again, but it has holes.
	if st.Size >= int64(size(b.slots)) && st.Blocks >= b.blocks {
		var head [hStatus]byte
		if _, err := b.f.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("scoreboard: %w", err)
		}
		if bytes.Equal(head[:], b.mine[:hStatus]) {
			return false, nil
		}
	}
	if err := fallocate(int(b.f.Fd()), int64(size(b.slots))); err != nil {
		return true, fmt.Errorf("scoreboard: hurt, and not to be mended: %w", err)
	}
	for slot := range b.slots {
		at := offset(slot)
		if _, err := b.f.WriteAt(b.mine[at:at+parentPart], int64(at)); err != nil {
			return true, fmt.Errorf("scoreboard: hurt, and not to be mended: %w", err)
		}
	}
	// Last, as it makes a scoreboard of it.
	if _, err := b.f.WriteAt(b.mine[:HeaderSize], 0); err != nil {
		return true, fmt.Errorf("scoreboard: hurt, and not to be mended: %w", err)
	}
	if st, err = b.allocated(); err == nil {
		b.blocks = min(b.blocks, st.Blocks)
	}
	return true, nil
}
