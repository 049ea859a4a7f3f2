package test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Offsets of docs/SCOREBOARD.md. Asking brood status would take longer than what is measured.
const (
	boardSlots      = 20
	boardGeneration = 136
	boardState      = 224
	boardHeader     = 4096
	boardSlot       = 512
	slotPID         = 0
	slotGeneration  = 8
	slotPhase       = 24
	slotState       = 128
	slotSince       = 136
	slotStarted     = 208
	phaseServing    = 2
)

// boardPause lies between two looks at the board. The daemon under test needs the processors more than a loop that spins.
const boardPause = 50 * time.Microsecond

// A board is a daemon's scoreboard, mapped.
type board struct{ mem []byte }

// A place is what a slot says of its child.
type place struct {
	slot, pid      int
	generation     uint64
	phase          uint64
	state          byte
	since, started int64 // ns since 1970
}

func (m *bench) board(d *server) *board {
	m.b.Helper()
	return openBoard(m.b, d)
}

func openBoard(tb testing.TB, d *server) *board {
	tb.Helper()
	f, err := os.Open(filepath.Join(d.run, "scoreboard"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, int(st.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { syscall.Munmap(mem) })
	return &board{mem}
}

func (b *board) word(off int) uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&b.mem[off])))
}

// look returns the slots that are filled.
func (b *board) look() []place {
	var ps []place
	n := int(atomic.LoadUint32((*uint32)(unsafe.Pointer(&b.mem[boardSlots]))))
	for i := range n {
		at := boardHeader + i*boardSlot
		if phase := b.word(at + slotPhase); phase != 0 {
			ps = append(ps, place{
				i, int(b.word(at + slotPID)), b.word(at + slotGeneration), phase, byte(b.word(at + slotState)),
				int64(b.word(at + slotSince)), int64(b.word(at + slotStarted)),
			})
		}
	}
	return ps
}

// serving returns the children that serve.
func (b *board) serving() []place {
	var ps []place
	for _, p := range b.look() {
		if p.phase == phaseServing {
			ps = append(ps, p)
		}
	}
	return ps
}

// generation is the one that serves.
func (b *board) generation() uint64 { return b.word(boardGeneration) }

// calm reports whether the daemon does nothing but serve.
func (b *board) calm() bool {
	const serving = "serving\x00"
	word := b.word(boardState)
	return string(binary.LittleEndian.AppendUint64(nil, word)) == serving
}

// renewed waits until at least n children serve and all that do are of one generation or a later one.
func (b *board) renewed(generation uint64, n int, pause time.Duration) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		ps := b.serving()
		old := slices.ContainsFunc(ps, func(p place) bool { return p.generation < generation })
		switch {
		case len(ps) >= n && !old:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("not all children are of generation %d: %+v", generation, ps)
		}
	}
}

// full waits until n children serve that are none of the dead.
func (b *board) full(n int, dead map[int]bool) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(boardPause) {
		have := 0
		for _, p := range b.serving() {
			if !dead[p.pid] {
				have++
			}
		}
		switch {
		case have >= n:
			return nil
		case time.Now().After(deadline):
			return errors.New("the pool does not become full again")
		}
	}
}
