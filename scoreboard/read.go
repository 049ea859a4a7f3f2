package scoreboard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLayout is returned for a file that is no scoreboard or has another layout.
var ErrLayout = errors.New("not a scoreboard of this layout")

// A Snapshot is the whole board as it was at one moment, or nearly: each slot is consistent in itself.
type Snapshot struct {
	Identity `json:"daemon"`
	Status   `json:"status"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"` // when the parent last wrote its status
	Listen   string    `json:"listen"`  // see Addresses
	Slots    int       `json:"slots"`
	Children []Child   `json:"children"` // the slots that are filled, in order
}

// Addresses are those that the daemon listens on, as the kernel has given them: host:port, or the path of a Unix socket. Listen has
// them separated by spaces, each behind its listener's name and = if that was given one.
func (s *Snapshot) Addresses() []string {
	all := strings.Fields(s.Listen)
	for i, a := range all {
		name, addr, named := strings.Cut(a, "=")
		if named && !strings.ContainsAny(name, ":/") { // which no name has, and every address
			all[i] = addr
		}
	}
	return all
}

// A Child is one filled slot.
type Child struct {
	Slot       int           `json:"slot"`
	PID        int           `json:"pid"`
	Kind       Kind          `json:"kind"`
	Generation uint64        `json:"generation"`
	State      State         `json:"state"` // parent's and child's view in one letter
	Since      time.Time     `json:"since"` // since when
	Born       time.Time     `json:"born"`
	Cause      string        `json:"cause"`            // why it was started
	Done       uint64        `json:"done"`             // jobs ended
	Running    uint64        `json:"running"`          // jobs running
	Skipped    uint64        `json:"skipped"`          // clients that had left before they were accepted
	Refused    uint64        `json:"refused"`          // clients that were refused
	Revoked    uint64        `json:"revoked,omitzero"` // the job whose client has left, 0: none
	Job        uint64        `json:"job,omitzero"`     // serial of the job described here, 0: none
	Started    time.Time     `json:"started,omitzero"`
	Left       time.Duration `json:"left,omitzero"` // time the job has left; negative: it is over; 0: no limit
	Client     string        `json:"client,omitzero"`
	Inode      uint64        `json:"inode,omitzero"` // of that client's connection, 0: none, or it does not matter who leaves
	Text       string        `json:"text,omitzero"`
	Torn       bool          `json:"torn,omitzero"` // the child was stopped or died while it wrote; Job and what follows are not known
}

// Read reads the file at path. It needs no daemon and waits for nobody.
func Read(path string) (*Snapshot, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s, err := readFrom(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// check tells the number of slots of a file with this header and size, or why it is none of ours.
func check(h []byte, fileSize int64) (slots int, err error) {
	if len(h) < HeaderSize || string(h[hMagic:hMagic+8]) != Magic {
		return 0, ErrLayout
	}
	v, hs, ss := order.Uint32(h[hVersion:]), order.Uint32(h[hHeaderSize:]), order.Uint32(h[hSlotSize:])
	if v != Version || hs != HeaderSize || ss != SlotSize {
		return 0, fmt.Errorf("%w: version %d (header %d, slot %d), this program reads version %d", ErrLayout, v, hs, ss, Version)
	}
	if es, n := order.Uint32(h[hEventSize:]), order.Uint32(h[hEvents:]); es != EventSize || n != Events {
		return 0, fmt.Errorf("%w: %d events of %d bytes, want %d of %d", ErrLayout, n, es, Events, EventSize)
	}
	n := order.Uint32(h[hSlots:])
	if n < 1 || n > MaxSlots || fileSize < int64(size(int(n))) {
		return 0, fmt.Errorf("%w: %d slots in %d bytes", ErrLayout, n, fileSize)
	}
	return int(n), nil
}

func readFrom(f io.ReaderAt, fileSize int64) (*Snapshot, error) {
	h, err := twice(f, 0, HeaderSize, func([]byte) bool { return true })
	if err != nil {
		return nil, short(err)
	}
	slots, err := check(h, fileSize)
	if err != nil {
		return nil, err
	}
	s := decodeHeader(h)
	s.Slots = slots
	s.Children = []Child{}
	all := make([]byte, slots*SlotSize)
	if _, err := f.ReadAt(all, HeaderSize); err != nil {
		return nil, short(err)
	}
	for i := range slots {
		raw := all[i*SlotSize : (i+1)*SlotSize]
		if Phase(order.Uint64(raw[sPhase:])) == PhaseFree {
			continue
		}
		c, ok, err := readChild(f, i)
		if err != nil {
			return nil, short(err)
		}
		if ok {
			s.Children = append(s.Children, c)
		}
	}
	return s, nil
}

// readChild reads a slot; ok is false if it is free.
func readChild(f io.ReaderAt, slot int) (c Child, ok bool, err error) {
	even := func(b []byte) bool { return order.Uint64(b[sSeq:])%2 == 0 }
	raw, err := twice(f, int64(offset(slot)), SlotSize, even)
	torn := errors.Is(err, errTorn)
	if err != nil && !torn {
		return Child{}, false, err
	}
	c, ok = decodeSlot(slot, raw, torn)
	return c, ok, nil
}

// short gives the end of the file its meaning: it is shorter than its header says, or somebody cuts it at this moment.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: cut short", ErrLayout)
	}
	return err
}

var errTorn = errors.New("never at rest")

// twice reads until two reads in a row agree and the bytes are acceptable. That needs no assumption about the order in
// which the kernel copies. After a hundred tries (a writer stopped in the middle) it returns what it has and errTorn.
func twice(f io.ReaderAt, off int64, n int, ok func([]byte) bool) ([]byte, error) {
	a, b := make([]byte, n), make([]byte, n)
	if _, err := f.ReadAt(a, off); err != nil {
		return nil, err
	}
	for range 100 {
		if _, err := f.ReadAt(b, off); err != nil {
			return nil, err
		}
		if ok(b) && bytes.Equal(a, b) {
			return b, nil
		}
		a, b = b, a
	}
	return a, errTorn
}

func stamp(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(ns))
}

// pid keeps a number that no process can have from those who send signals: to kill(2), -1 is everybody.
func pid(v uint64) int {
	if v > maxPID {
		return 0
	}
	return int(v)
}

func decodeHeader(h []byte) *Snapshot {
	get := func(off int) uint64 { return order.Uint64(h[off:]) }
	return &Snapshot{
		Identity: Identity{
			Name: text(h[hName : hName+nameLen]), PID: pid(get(hPID)), Start: get(hStart),
			BootID: text(h[hBootID : hBootID+bootLen]), Program: text(h[hProgram : hProgram+programLen]),
			PIDFile: text(h[hPIDFile : hPIDFile+pathLen]), ErrorLog: text(h[hErrorLog : hErrorLog+pathLen]),
		},
		Status: Status{
			State: text(h[hState : hState+stateLen]), Generation: get(hGeneration), Rolling: get(hRolling),
			Want: int(get(hWant)), Born: get(hBorn), Died: get(hDied), Killed: get(hKilled), Lost: get(hLost),
			Done: get(hDone), Skipped: get(hSkipped), Refused: get(hRefused), ReloadAt: stamp(get(hReloadAt)), ReloadOK: get(hReloadOK) == 1,
			Reload: text(h[hReload : hReload+reloadLen]), Trouble: text(h[hTrouble : hTrouble+troubleLen]),
		},
		Created: stamp(get(hCreated)), Updated: stamp(get(hUpdated)),
		Listen: text(h[hListen : hListen+listenLen]),
	}
}

// decodeSlot returns ok false for a slot that became free while it was being read.
func decodeSlot(i int, raw []byte, torn bool) (c Child, ok bool) {
	get := func(off int) uint64 { return order.Uint64(raw[off:]) }
	c = Child{
		Slot: i, PID: pid(get(sPID)), Kind: Kind(get(sKind)), Generation: get(sGeneration), Born: stamp(get(sBorn)),
		Cause: text(raw[sCause : sCause+causeLen]), Revoked: get(sRevoked),
		State: State(get(sState)), Since: stamp(get(sSince)), Done: get(sDone), Running: get(sRunning), Skipped: get(sSkipped), Refused: get(sRefused), Torn: torn,
	}
	switch Phase(get(sPhase)) {
	case PhaseFree:
		return c, false
	case PhaseStarting:
		c.State = Starting
	case PhaseDraining, PhaseKilling:
		if c.State != Cancelling {
			c.State = Draining
		}
	}
	if !torn && get(sJob) != 0 {
		c.Job, c.Started, c.Inode = get(sJob), stamp(get(sStarted)), get(sInode)
		if limit := get(sLimit); limit != 0 {
			c.Left = time.Duration(limit) - monotonic()
		}
		c.Client, c.Text = text(raw[sClient:sClient+clientLen]), text(raw[sText:])
	}
	return c, true
}

// monotonic reads the clock of deadlines.
func monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
