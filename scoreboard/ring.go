package scoreboard

import (
	"cmp"
	"fmt"
	"hash/crc64"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

var crc = sync.OnceValue(func() *crc64.Table { return crc64.MakeTable(crc64.ECMA) })

// sum is the check sum of a record. Two parts of different events do not have one that fits: a reader that comes while a
// record is written, or after somebody has damaged it, takes it for none.
func sum(record []byte) uint64 {
	return crc64.Update(crc64.Update(0, crc(), record[:eSum]), crc(), record[eSum+8:])
}

// Record writes an event into the ring, in the place of the oldest one, and gives it the next sequence number. It is one
// pwrite(2) of a record that lies in one page. It may be called beside the board's other methods, but by one goroutine at a
// time.
func (b *Board) Record(e Event) error {
	b.events++
	e.Seq = b.events
	return b.write(e.encode(), b.ring()+int(e.Seq%Events)*EventSize)
}

// Recorded returns the sequence number of the last event. As Record it is not for two goroutines at once.
func (b *Board) Recorded() uint64 { return b.events }

// ring is where the ring begins.
func (b *Board) ring() int { return offset(b.slots) }

// A Ring is a reader of the events of one daemon. It keeps the file open: what was written last can be read after the daemon
// has taken the file away.
type Ring struct {
	id  Identity
	at  int64
	f   io.ReaderAt
	all []byte // scratch
	end func() error
}

// OpenRing opens the ring of events of the scoreboard at path. Like Read it needs no daemon and waits for nobody.
func OpenRing(path string) (*Ring, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil {
		var r *Ring
		if r, err = ringOf(f, st.Size()); err == nil {
			r.end = f.Close
			return r, nil
		}
		err = fmt.Errorf("%s: %w", path, err)
	}
	f.Close()
	return nil, err
}

func ringOf(f io.ReaderAt, fileSize int64) (*Ring, error) {
	h := make([]byte, HeaderSize)
	if _, err := f.ReadAt(h, 0); err != nil {
		return nil, short(err)
	}
	slots, err := check(h, fileSize)
	if err != nil {
		return nil, err
	}
	return &Ring{id: decodeHeader(h).Identity, at: int64(offset(slots)), f: f, all: make([]byte, Events*EventSize)}, nil
}

// Identity says whose events they are.
func (r *Ring) Identity() Identity { return r.id }

// Close closes the file.
func (r *Ring) Close() error { return r.end() }

// looks is how often the ring is read until nothing is missing. What is written while it is read can be seen without what was
// written before it; the next look finds that.
const looks = 10

// Since returns the events with a sequence number above seq, oldest first, as far as the ring has them: the last Events.
// Numbers that are missing are of events that have been forgotten, or damaged by somebody. The error is of reading the file;
// if it says ErrLayout somebody has cut it short.
func (r *Ring) Since(seq uint64) ([]Event, error) {
	found, last := map[uint64]Event{}, uint64(0)
	for range looks {
		if _, err := r.f.ReadAt(r.all, r.at); err != nil {
			return nil, short(err)
		}
		for i := range Events {
			if e, ok := decodeEvent(r.all[i*EventSize : (i+1)*EventSize]); ok && e.Seq > seq {
				found[e.Seq], last = e, max(last, e.Seq)
			}
		}
		missing := 0
		for n := last; n > max(seq, last-min(last, Events-1)); n-- { // the place of the oldest may be just being written to
			if _, ok := found[n]; !ok {
				missing++
			}
		}
		if missing == 0 {
			break
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) }), nil
}
