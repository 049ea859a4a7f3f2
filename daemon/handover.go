package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/scoreboard"
)

// A handover is what a parent hands to the program that it executes in its own place: all that it knows, and the numbers of
// the descriptors that stay open. It travels as JSON in a memory file. Programs of different builds read it: a field may be
// added, but what is there keeps its meaning as long as Agreement can be spoken.
type handover struct {
	Agreement inherit.Speaks `json:"agreement"` // of the program that writes it
	InUse     inherit.Speaks `json:"in_use"`    // the oldest and the newest agreement that a child runs under
	At        time.Duration  `json:"at"`        // of CLOCK_MONOTONIC, as all times in Pool
	Cause     string         `json:"cause"`
	LogLevel  string         `json:"log_level,omitempty"` // that an operator has set

	Config *configText `json:"config,omitempty"` // the configuration file with which the next program has passed its trial

	Name     string `json:"name"`
	RunDir   string `json:"run_dir"`
	PIDFile  string `json:"pid_file"`
	Program  string `json:"program"`
	StartDir string `json:"start_dir"`
	Slots    int    `json:"slots"`
	Layout   uint32 `json:"layout,omitempty"` // of the scoreboard

	Service   handedService    `json:"service"`
	Pool      savedPool        `json:"pool"`
	PIDFiles  []handedFile     `json:"pid_files"`
	Board     int              `json:"board"`
	Events    uint64           `json:"events"` // that there have been
	Bell      int              `json:"bell"`
	Operators int              `json:"operators"` // the control socket
	Waiting   []handedOperator `json:"waiting"`
	Listeners []handedListener `json:"listeners"`
	Turns     handedTurns      `json:"turns,omitzero"`
	Programs  []handedProgram  `json:"programs"`
	Children  []handedChild    `json:"children"`
	Outputs   []handedOutput   `json:"outputs"`

	Connections []handedConnection `json:"connections,omitempty"`
}

type handedFile struct {
	Path string `json:"path"`
	FD   int    `json:"fd"`
}

type handedService struct {
	Socket   string        `json:"socket,omitempty"`
	Watchdog time.Duration `json:"watchdog,omitempty"`
}

type handedListener struct {
	FD int `json:"fd"`
	// As it was asked for.
	AskedNetwork string `json:"asked_network"`
	AskedAddress string `json:"asked_address"`
	// As the kernel gave it.
	Network string `json:"network"`
	Addr    string `json:"addr"`
	Port    uint16 `json:"port,omitempty"`
	Path    string `json:"path,omitempty"`
	Dev     uint64 `json:"dev,omitempty"`
	Ino     uint64 `json:"ino,omitempty"`
	Lent    bool   `json:"lent,omitempty"`
	Stored  string `json:"stored,omitempty"` // its name in the service manager's store
}

// A handedOperator is an operator's connection with no answer yet. Without a verb nothing has been read from it.
type handedOperator struct {
	FD      int             `json:"fd"`
	Request control.Request `json:"request"`
}

type handedProgram struct {
	FD         int            `json:"fd"`
	Generation uint64         `json:"generation"`
	Print      string         `json:"print"`
	Speaks     inherit.Speaks `json:"speaks"`
	Papers     int            `json:"papers"`
}

type handedChild struct {
	origin
	Life    int      `json:"life"`
	Control int      `json:"control"`
	Proto   uint64   `json:"proto"`
	Under   under    `json:"under,omitzero"`
	Leaf    string   `json:"leaf,omitempty"` // its cgroup
	Unsent  [][]byte `json:"unsent,omitempty"`
	Ready   bool     `json:"ready,omitempty"`
	Failed  string   `json:"failed,omitempty"` // what it has said and printed, if it is not ready
	Tail    []string `json:"tail,omitempty"`
	Ledger  *ledger  `json:"ledger,omitempty"` // if it has no output for the access log any more
}

type handedOutput struct {
	FD     int       `json:"fd"`
	Stream string    `json:"stream"`
	From   origin    `json:"from"`
	Rest   logs.Rest `json:"rest,omitzero"`
	Ledger *ledger   `json:"ledger,omitempty"` // of an access log
}

// A handedConnection is one that the parent has seen in the kernel's tables. A client who resets it in the moment of the upgrade
// is not to be found there by a parent that does not know of it.
type handedConnection struct {
	PID     int            `json:"pid"`
	FD      int            `json:"fd"` // in the child
	Inode   uint64         `json:"inode"`
	Local   netip.AddrPort `json:"local"`
	Foreign netip.AddrPort `json:"foreign"`
}

// descriptors are the numbers of all descriptors that are handed over.
func (h *handover) descriptors() []int {
	fds := []int{h.Board, h.Bell, h.Operators}
	fds = append(fds, h.Turns.Token...)
	if h.Turns.Bell > 0 {
		fds = append(fds, h.Turns.Bell)
	}
	for _, w := range h.Waiting {
		fds = append(fds, w.FD)
	}
	for _, f := range h.PIDFiles {
		fds = append(fds, f.FD)
	}
	for _, l := range h.Listeners {
		fds = append(fds, l.FD)
	}
	for _, p := range h.Programs {
		fds = append(fds, p.FD, p.Papers)
	}
	for _, c := range h.Children {
		fds = append(fds, c.Control)
	}
	for _, o := range h.Outputs {
		fds = append(fds, o.FD)
	}
	return fds
}

// maxHandover is more than a parent has to say, unless children do all that they can to make it say more. A test makes it
// smaller.
var maxHandover int64 = 256 << 20

// write puts it into a memory file, at whose begin it leaves the descriptor.
func (h *handover) write() (*os.File, error) {
	fd, err := unix.MemfdCreate("brood", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "handover")
	err = json.NewEncoder(f).Encode(h)
	if err == nil {
		var n int64
		if n, err = f.Seek(0, io.SeekCurrent); n > maxHandover { // there is a way back now, and none when it is read
			err = fmt.Errorf("%d bytes, at most %d can be", n, maxHandover)
		}
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write what is handed over: %w", err)
	}
	return f, nil
}

// readHandover reads what the parent hands over, and closes the descriptor.
func readHandover(fd int) (*handover, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "handover")
	if f == nil {
		return nil, errors.New("nothing is handed over")
	}
	defer f.Close()
	h := new(handover)
	if err := json.NewDecoder(io.LimitReader(f, maxHandover)).Decode(h); err != nil {
		return nil, fmt.Errorf("what the parent hands over cannot be read: %w", err)
	}
	return h, h.understood(inherit.Spoken)
}

// understood reports whether a program that speaks so can take over: from the parent, with its children, and with the programs
// from which their successors are started.
func (h *handover) understood(spoken inherit.Speaks) error {
	if h.Agreement.With(spoken) == 0 {
		return fmt.Errorf("the parent that runs speaks agreement %d to %d, this program %d to %d: stop and start the daemon",
			h.Agreement.Oldest, h.Agreement.Newest, spoken.Oldest, spoken.Newest)
	}
	if h.Layout != 0 && h.Layout != scoreboard.Version {
		return fmt.Errorf("the scoreboard of the daemon that runs has layout %d, this program has %d: stop and start the daemon",
			h.Layout, scoreboard.Version)
	}
	if h.InUse.Newest != 0 && (h.InUse.Oldest < spoken.Oldest || h.InUse.Newest > spoken.Newest) {
		return fmt.Errorf("the children that run use agreement %d to %d, this program speaks %d to %d: "+
			"reload to it first and wait until the old children have left, or stop and start the daemon", h.InUse.Oldest, h.InUse.Newest, spoken.Oldest, spoken.Newest)
	}
	for _, p := range h.Programs {
		if p.Speaks.With(spoken) == 0 {
			return fmt.Errorf("the program of generation %d speaks agreement %d to %d, this one %d to %d: "+
				"reload to it first, or stop and start the daemon", p.Generation, p.Speaks.Oldest, p.Speaks.Newest, spoken.Oldest, spoken.Newest)
		}
	}
	return nil
}

// use takes note of the agreement of a child.
func (h *handover) use(proto uint64) {
	if h.InUse.Newest == 0 {
		h.InUse = inherit.Speaks{Oldest: proto, Newest: proto}
	}
	h.InUse.Oldest, h.InUse.Newest = min(h.InUse.Oldest, proto), max(h.InUse.Newest, proto)
}

// check reports what of this configuration cannot take over from the parent that hands over. What is not named here may have
// changed.
func (h *handover) check(cfg *Config) error {
	for _, same := range []struct{ field, was, is string }{
		{"Name", h.Name, cfg.Name}, {"RunDir", h.RunDir, cfg.RunDir}, {"PIDFile", h.PIDFile, cfg.PIDFile},
	} {
		if same.was != same.is {
			return fmt.Errorf("field %s is %q, and %q in the daemon that runs: stop and start it", same.field, same.is, same.was)
		}
	}
	if err := h.Turns.check(cfg); err != nil {
		return err
	}
	if n := slotsFor(cfg); n > h.Slots {
		return fmt.Errorf("fields MaxChildren, %d, MaxDrainingChildren, %d, and Dequeue.Max, %d, take %d places on the scoreboard, "+
			"and the daemon that runs has %d: stop and start it", cfg.MaxChildren, cfg.MaxDrainingChildren, cfg.Dequeue.Max, n, h.Slots)
	}
	return nil
}
