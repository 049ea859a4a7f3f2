package scoreboard

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// image is a good board as bytes, with children in slots 0 and 2 of 4.
func image(t testing.TB) []byte {
	b := create(t, 4)
	must(t, b.SetStatus(Status{State: "serving", Generation: 1, Want: 2, Born: 2}, time.Now()))
	for _, slot := range []int{0, 2} {
		must(t, b.Bear(slot, Serve, 1, "start", time.Now()))
		must(t, b.SetPID(slot, 100+slot))
		must(t, b.SetPhase(slot, PhaseServing))
		s := attach(t, b, slot)
		s.SetWork(Work{State: Working, Since: time.Now(), Running: 1, Job: recordOf(9)})
		must(t, b.Record(Event{Time: time.Now(), Kind: EventReady, PID: 100 + slot, Slot: slot, Generation: 1, Text: "start"}))
	}
	data, err := os.ReadFile(b.path)
	must(t, err)
	return data
}

// patch returns a copy of data with v at off.
func patch(data []byte, off int, v uint32) []byte {
	data = bytes.Clone(data)
	binary.LittleEndian.PutUint32(data[off:], v)
	return data
}

// Layouts that this program does not know are refused, by the reader and by a child, and not misread.
func TestRefused(t *testing.T) { // B49
	good := image(t)
	for name, data := range map[string][]byte{
		"empty":            {},
		"one byte":         good[:1],
		"magic alone":      good[:8],
		"no slots":         good[:HeaderSize-1],
		"header alone":     good[:HeaderSize],
		"last byte gone":   good[:len(good)-1],
		"last event gone":  good[:len(good)-EventSize],
		"no ring":          good[:offset(4)],
		"last slot gone":   good[:offset(3)],
		"text":             bytes.Repeat([]byte("not a scoreboard\n"), 1000),
		"zeros":            make([]byte, len(good)),
		"0xff":             bytes.Repeat([]byte{0xff}, len(good)),
		"other magic":      patch(good, 4, 0),
		"older version":    patch(good, 8, Version-1),
		"newer version":    patch(good, 8, Version+1),
		"other header":     patch(good, 12, 8192),
		"other slots":      patch(good, 16, 1024),
		"slots of nothing": patch(good, 16, 0),
		"0 slots":          patch(good, 20, 0),
		"5 slots":          patch(good, 20, 5),
		"other events":     patch(good, 88, 256),
		"fewer events":     patch(good, 92, 511),
		"2^32-1 events":    patch(good, 92, 1<<32-1),
		"2^31 slots":       patch(good, 20, 1<<31),
		"2^32-1 slots":     patch(good, 20, 1<<32-1),
		"too many slots":   append(patch(good, 20, MaxSlots+1), make([]byte, size(MaxSlots+1))...),
		"big-endian":       patch(patch(patch(patch(good, 8, 1<<24), 12, 16<<8), 16, 2<<16), 20, 4<<24),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "scoreboard")
			must(t, os.WriteFile(path, data, 0o600))
			if s, err := Read(path); !errors.Is(err, ErrLayout) {
				t.Errorf("Read: %+v, %v; want ErrLayout", s, err)
			}
			if r, err := OpenRing(path); !errors.Is(err, ErrLayout) {
				t.Errorf("OpenRing: %+v, %v; want ErrLayout", r, err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			if s, err := Attach(int(f.Fd()), 0); !errors.Is(err, ErrLayout) {
				t.Errorf("Attach: %+v, %v; want ErrLayout", s, err)
			}
		})
	}
	t.Run("good", func(t *testing.T) { // so that nothing above is refused for another reason
		path := filepath.Join(t.TempDir(), "scoreboard")
		must(t, os.WriteFile(path, good, 0o600))
		if s, err := Read(path); err != nil || len(s.Children) != 2 {
			t.Errorf("Read: %+v, %v; want two children", s, err)
		}
	})
}

// What is no regular file is an error, at once.
func TestReadOther(t *testing.T) {
	dir := t.TempDir()
	fifo, link, board := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "board")
	must(t, unix.Mkfifo(fifo, 0o600))
	must(t, os.WriteFile(board, image(t), 0o600))
	must(t, os.Symlink(board, link))
	for _, path := range []string{fifo, link, dir, "/dev/null", "/dev/zero", filepath.Join(dir, "none")} {
		if s, err := Read(path); err == nil {
			t.Errorf("%s: read as %+v", path, s)
		}
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}

func TestAttachRefuses(t *testing.T) {
	b := create(t, 2)
	for _, slot := range []int{-1, 2, 1 << 40} {
		if _, err := Attach(b.FD(), slot); err == nil {
			t.Errorf("attached to slot %d of 2", slot)
		}
	}
	if _, err := Attach(-1, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("a bad descriptor: %v", err)
	}
	f, err := os.Open(b.path)
	must(t, err)
	defer f.Close()
	if _, err := Attach(int(f.Fd()), 0); !errors.Is(err, unix.EACCES) {
		t.Errorf("a descriptor that cannot be written to: %v", err)
	}
}

// Cutting the file under the parent ends in errors.
func TestTruncated(t *testing.T) {
	for _, size := range []int64{0, 100, HeaderSize, HeaderSize + SlotSize + 200} {
		b := create(t, 4)
		for slot := range 4 {
			must(t, b.Bear(slot, Serve, 1, "", time.Now()))
		}
		must(t, os.Truncate(b.path, size))
		if h, err := b.Look(3); err == nil {
			t.Errorf("cut at %d: Look says %+v", size, h)
		}
		if c, _, err := b.Child(3); err == nil {
			t.Errorf("cut at %d: Child says %+v", size, c)
		}
		if s, err := Read(b.path); !errors.Is(err, ErrLayout) {
			t.Errorf("cut at %d: Read says %+v, %v", size, s, err)
		}
		if _, err := Attach(b.FD(), 0); !errors.Is(err, ErrLayout) {
			t.Errorf("cut at %d: Attach says %v", size, err)
		}
		// Writing makes the file longer again, or fails; nothing else may happen.
		b.SetStatus(Status{}, time.Now())
		b.SetPhase(3, PhaseKilling)
		b.Free(3)
		if err := b.Remove(); err != nil {
			t.Errorf("cut at %d: Remove says %v", size, err)
		}
	}
}

// A child that fills its slot with nonsense is shown as nonsense, without a number that would hurt whom it is given to.
func TestNonsense(t *testing.T) {
	for _, fill := range []string{"\xff", "\x1b[2J\x9b\xff\n\r", "\x01\x00", "\x00\xff\xff\xff\xff\xff\xff\xff"} {
		b := create(t, 3)
		for slot := range 3 {
			must(t, b.Bear(slot, Serve, 1, "start", time.Now()))
			must(t, b.SetPID(slot, 100+slot))
			must(t, b.SetPhase(slot, PhaseServing))
			s := attach(t, b, slot)
			s.SetWork(Work{State: Working, Since: time.Now(), Running: 1, Job: recordOf(9)})
		}
		before, err := Read(b.path)
		must(t, err)
		s := attach(t, b, 1)
		mine := s.mem[offset(1):offset(2)]
		copy(mine, bytes.Repeat([]byte(fill), SlotSize))
		got, err := Read(b.path)
		must(t, err)
		hintOf(t, b, 1)
		if _, err := json.Marshal(got); err != nil {
			t.Errorf("%q: no JSON: %v", fill, err)
		}
		neighbours := 0
		for _, c := range got.Children {
			if c.Slot == 1 {
				if c.PID < 0 || c.PID > 1<<22 {
					t.Errorf("%q: process id %d", fill, c.PID)
				}
				continue
			}
			neighbours++
			if c != before.Children[c.Slot] {
				t.Errorf("%q: the neighbour in slot %d is now %+v", fill, c.Slot, c)
			}
		}
		if neighbours != 2 {
			t.Errorf("%q: %d neighbours, want 2", fill, neighbours)
		}
		// The next child finds nothing of it.
		must(t, b.Bear(1, Serve, 2, "again", time.Now()))
		must(t, b.SetPhase(1, PhaseServing))
		got, err = Read(b.path)
		must(t, err)
		if c := got.Children[1]; c.Torn || c.Job != 0 || c.Done != 0 || c.Running != 0 || c.State != Starting {
			t.Errorf("%q: the next child is born as %+v", fill, c)
		}
		s.Show(recordOf(10))
		got, err = Read(b.path)
		must(t, err)
		if c := got.Children[1]; c.Torn || c.Job != 10 || c.Done != 0 || c.Cause != "again" || whole(c) != nil {
			t.Errorf("%q: the next child shows as %+v", fill, c)
		}
	}
}

// FuzzRead: whatever the bytes are, the reader gives an error of its own or a board within its limits.
//
// The input is read as bytes of a file by itself, and as changes to a good file: ten bytes are an offset and a word. That
// keeps inputs small.
func FuzzRead(f *testing.F) {
	good := image(f)
	change := func(off int, word uint64) []byte {
		return order.AppendUint64(order.AppendUint16(nil, uint16(off)), word)
	}
	f.Add([]byte{}, uint16(0))
	f.Add([]byte(Magic), uint16(0))
	f.Add([]byte{}, uint16(HeaderSize))
	f.Add(change(hVersion, Version), uint16(0))
	f.Add(change(hSlotSize, 512|1<<63), uint16(0))
	f.Add(change(hPID, 1<<63), uint16(0))
	f.Add(append(change(offset(1)+sPhase, 2), change(offset(1)+sSeq, 7)...), uint16(0))
	f.Add(change(offset(4)+EventSize+eSequence, 513), uint16(0))
	f.Add(append(change(offset(4)+EventSize+eText, 0x9b4a325b1b), change(offset(4)+2*EventSize+eSum, 0)...), uint16(0))
	f.Add(append(change(offset(2)+sText, 0x9b4a325b1b), change(offset(2)+sState, 0xff1b)...), uint16(0))
	f.Fuzz(func(t *testing.T, changes []byte, end uint16) {
		try := func(data []byte, size int64) *Snapshot {
			s, err := readFrom(bytes.NewReader(data), size)
			if err != nil {
				if !errors.Is(err, ErrLayout) {
					t.Fatalf("%v, want ErrLayout", err)
				}
				return nil
			}
			r, err := ringOf(bytes.NewReader(data), size)
			if err != nil {
				t.Fatalf("a board without a ring: %v", err)
			}
			if events, err := r.Since(0); err == nil {
				checkEvents(t, events)
			} else if !errors.Is(err, ErrLayout) {
				t.Fatalf("%v, want ErrLayout", err)
			}
			if s.Slots < 1 || s.Slots > MaxSlots || len(s.Children) > s.Slots || size < int64(HeaderSize+s.Slots*SlotSize+Events*EventSize) {
				t.Fatalf("%d slots, %d children in %d bytes", s.Slots, len(s.Children), size)
			}
			if s.PID < 0 || s.PID > 1<<22 {
				t.Fatalf("the parent is process %d", s.PID)
			}
			for i, c := range s.Children {
				if c.Slot < 0 || c.Slot >= s.Slots || i > 0 && c.Slot <= s.Children[i-1].Slot {
					t.Fatalf("children out of order: %+v", s.Children)
				}
				if c.PID < 0 || c.PID > 1<<22 || len(c.Client) > 96 || len(c.Text) > 192 || len(c.Cause) > 88 {
					t.Fatalf("out of its limits: %+v", c)
				}
			}
			out, err := json.Marshal(s)
			if err != nil || bytes.ContainsFunc(out, func(r rune) bool { return r < ' ' }) {
				t.Fatalf("JSON: %v %q", err, out)
			}
			return s
		}
		try(changes, int64(len(changes)))
		data := bytes.Clone(good)
		for ; len(changes) >= 10; changes = changes[10:] {
			// The ring is longer than an offset can tell, but all of its records are read alike.
			copy(data[int(order.Uint16(changes))%(offset(4)+4*EventSize):], changes[2:10])
		}
		if end > 0 {
			data = data[:min(int(end), len(data))]
		}
		try(data, int64(len(data)))
		try(data, 1<<40) // as if it had been cut since its size was asked for
		if len(data) == len(good) {
			copy(data, good[:hPID])
			copy(data[hEventSize:], good[hEventSize:hEvents+4])
			if try(data, int64(len(data))) == nil {
				t.Fatal("a good head has been refused")
			}
		}
	})
}
