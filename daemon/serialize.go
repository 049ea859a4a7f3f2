package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// Serialize says how children that have nothing to do take turns in waiting for connections. docs/ACCEPTING.md has figures.
type Serialize string

const (
	// SerializeExclusive has nobody take a lock that he could keep from others. Of children that take one job at a time a few wait, and
	// call others when they have work; of those that take more all do, and the kernel wakes one for each connection.
	SerializeExclusive Serialize = "exclusive"
	// SerializeNone has all of them wait, and wakes all of them: one gets the connection, the others look in vain.
	SerializeNone Serialize = "none"
	// SerializeFlock lets one of them wait, who has the lock on Config.LockFile (flock(2)).
	SerializeFlock Serialize = "flock"
	// SerializeSemaphore lets one of them wait, who has taken a System V semaphore. The kernel gives it back for a child that dies.
	SerializeSemaphore Serialize = "semaphore"
	// SerializePipe lets one of them wait, who has taken a token from a pipe. The parent puts in another one if a child dies
	// with it.
	SerializePipe Serialize = "pipe"
	// SerializeReuseport gives each of them a queue of its own for each TCP address (SO_REUSEPORT): the kernel decides who
	// gets a client before it is known who has time for him. So it is for jobs that are short. The parent owns
	// the sockets: what waits in the queue of a child that has died is taken by another. Their number is fixed, so Pool must be Static.
	// Unix sockets are shared as with SerializeExclusive.
	SerializeReuseport Serialize = "reuseport"
)

// serializeModes are all of them; a mode's place here is its number on the wire.
var serializeModes = []Serialize{
	SerializeExclusive, SerializeNone, SerializeFlock, SerializeSemaphore, SerializePipe, SerializeReuseport,
}

// lockName is the file in the run directory that children lock if no other one is named.
const lockName = "lock"

// completeSerialize fills in the defaults of how children take turns.
func (cfg *Config) completeSerialize() error {
	setDefault(&cfg.Serialize, SerializeExclusive)
	if !slices.Contains(serializeModes, cfg.Serialize) {
		return fmt.Errorf("field Serialize is %q: want one of %q", cfg.Serialize, serializeModes)
	}
	if cfg.Serialize == SerializeReuseport && cfg.Pool != Static {
		return fmt.Errorf("field Serialize is %q, which gives each child a queue, and field Pool is %q: set Pool to %q, or Serialize to %q",
			cfg.Serialize, cfg.Pool, Static, SerializeExclusive)
	}
	if cfg.LockFile != "" && cfg.Serialize != SerializeFlock {
		return fmt.Errorf("field LockFile is set, but field Serialize is %q: a file is locked with %q", cfg.Serialize, SerializeFlock)
	}
	if cfg.Serialize != SerializeFlock {
		return nil
	}
	if cfg.LockFile == "" {
		cfg.LockFile = filepath.Join(cfg.RunDir, lockName)
	}
	if err := cfg.absolute(&cfg.LockFile); err != nil {
		return err
	}
	if slices.Contains([]string{cfg.PIDFile, filepath.Join(cfg.RunDir, control.PIDName)}, cfg.LockFile) {
		return fmt.Errorf("field LockFile is %s, which the parent keeps locked as its pidfile: name another file", cfg.LockFile)
	}
	return nil
}

// turns is what the parent keeps for the children to take turns with.
type turns interface {
	// forChild returns descriptors for one more child, and the number that it is told. The descriptors are closed when it has its own.
	forChild() (fds []int, number uint64, err error)
	// hand says what the next parent needs.
	hand() handedTurns
	close()
}

// handedTurns is what one parent hands to the next for that.
type handedTurns struct {
	Mode      Serialize `json:"mode,omitempty"` // empty, of an older parent: exclusive
	Places    int       `json:"places,omitempty"`
	Semaphore int       `json:"semaphore,omitempty"`
	Token     []int     `json:"token,omitempty"` // descriptors
	Bell      int       `json:"bell,omitempty"`  // a descriptor; 0: none
}

// openTurns makes what the mode needs, or takes it over.
func (p *Parent) openTurns() (err error) {
	var handed handedTurns
	if p.handed != nil {
		handed = p.handed.Turns
	}
	switch p.cfg.Serialize {
	case SerializeExclusive:
		if p.cfg.NoFork || p.cfg.Concurrency > 1 && handed.Bell == 0 { // else there are children that are to be called
			return nil
		}
		p.turns, err = openRoster(handed)
	case SerializeFlock:
		p.turns, err = openLockFile(p.cfg.LockFile, p.cfg.LockFile == filepath.Join(p.cfg.RunDir, lockName))
	case SerializeSemaphore:
		p.turns, err = p.openSemaphore(handed)
	case SerializePipe:
		p.turns, err = p.openToken(handed)
	}
	if err != nil {
		return fmt.Errorf("field Serialize is %q: %w", p.cfg.Serialize, err)
	}
	if p.turns != nil {
		p.onExit(p.turns.close)
	}
	return nil
}

// lostTurns is told that a child has died.
func (p *Parent) lostTurns() {
	if r, ok := p.turns.(*roster); ok {
		r.ring()
	}
}

// turnsFor is what a child of this kind gets to take turns with: descriptors, the mode's number, and one that belongs to it.
func (p *Parent) turnsFor(k scoreboard.Kind) (fds []int, mode uint8, number uint64, err error) {
	if k == scoreboard.Dequeue {
		return nil, 0, 0, nil
	}
	mode = uint8(slices.Index(serializeModes, p.cfg.Serialize))
	if p.turns != nil {
		fds, number, err = p.turns.forChild()
	}
	return fds, mode, number, err
}

// handTurns is what the next parent is told.
func (p *Parent) handTurns() handedTurns {
	var h handedTurns
	if p.turns != nil {
		h = p.turns.hand()
	}
	h.Mode, h.Places = p.cfg.Serialize, p.places()
	return h
}

// check reports what of another configuration does not go with children that are there.
func (h handedTurns) check(cfg *Config) error {
	was := h.Mode
	setDefault(&was, SerializeExclusive)
	switch {
	case was != cfg.Serialize:
		return fmt.Errorf("field Serialize is %q, and %q in the daemon that runs: stop and start it", cfg.Serialize, was)
	case was == SerializeReuseport && h.Places != cfg.Prefork:
		return fmt.Errorf("field Prefork is %d, and %d in the daemon that runs, which has so many queues: stop and start it",
			cfg.Prefork, h.Places)
	}
	return nil
}

// A turnTaker is how a child takes turns, as its parent has told it.
type turnTaker struct {
	mode   Serialize
	number uint64
	fd     int // the first descriptor for that
}

// lock makes what this child takes before it waits for connections; nil: nothing.
func (t turnTaker) lock(complain func(string, ...any)) (*turnLock, error) {
	switch t.mode {
	case SerializeFlock:
		return newTurnLock(newThreadLock(flockOf(t.fd), complain))
	case SerializeSemaphore:
		return newTurnLock(newThreadLock(semaphore(t.number), complain))
	case SerializePipe:
		return newTurnLock(&childToken{in: t.fd, out: t.fd + 1, held: -1}, nil)
	}
	return nil, nil
}

// roster reports whether the first descriptor is a bell.
func (t turnTaker) roster() bool { return t.mode == SerializeExclusive && t.number == 1 }

// taker is what the parent's first word says of taking turns.
func (c *Child) taker(m control.Message) (turnTaker, error) {
	if int(m.How) >= len(serializeModes) {
		return turnTaker{}, errors.New("the parent knows a way of taking turns that this program does not: stop and start the daemon")
	}
	return turnTaker{serializeModes[m.How], m.Inode, c.claim.TurnFD()}, nil
}
