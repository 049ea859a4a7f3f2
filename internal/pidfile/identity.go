package pidfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxContent is more than the longest content that Take writes (80 bytes); a longer file is not ours.
const maxContent = 128

// Identity is who a pidfile speaks of: one process, for all time.
//
// The zero value is nobody: it is not alive and cannot be opened.
type Identity struct {
	// PID is the process id, as seen in this pid namespace.
	PID int
	// Start is when the process started: /proc/PID/stat field 22, clock ticks since boot.
	Start uint64
	// BootID is /proc/sys/kernel/random/boot_id, which changes with every boot.
	BootID string
}

// Read returns the identity that the pidfile at path holds, without judging whether it is true.
//
// An empty file, garbage, or anything but a regular file is an error; a missing file wraps fs.ErrNotExist. A daemon that
// starts in this very moment may be caught with an empty file: look again.
func Read(path string) (Identity, error) {
	fd, err := openToRead(path)
	if err != nil {
		return Identity{}, fmt.Errorf("read pidfile %s: %w", path, err)
	}
	defer unix.Close(fd)
	id, err := readIdentity(fd)
	if err != nil {
		return Identity{}, fmt.Errorf("read pidfile %s: %w", path, err)
	}
	return id, nil
}

// Self returns the identity of this process.
func Self() (Identity, error) { return Of(os.Getpid()) }

// Of returns the identity of the process that has the given id now.
//
// The error wraps fs.ErrNotExist if there is none. A zombie has an identity too, although it is not alive.
func Of(pid int) (Identity, error) {
	boot, err := bootID()
	if err != nil {
		return Identity{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	_, start, err := statOf(pid)
	if err != nil {
		return Identity{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return Identity{PID: pid, Start: start, BootID: boot}, nil
}

// Alive reports whether that very process runs: same id, same start, same boot, and not a zombie.
//
// It is true at the moment of the look only. To signal the process, use [Identity.Open].
func (id Identity) Alive() bool { return id.check() == nil }

// Open returns a pidfd for the process if it is that very process.
//
// The descriptor is close-on-exec and the caller's to close. It is opened first and checked afterwards, so whatever happens
// to the number later, a signal sent with pidfd_send_signal(2) reaches this process or nobody. If the process is gone, is a
// zombie, or the number belongs to another one, the error wraps unix.ESRCH. It needs Linux 5.3 (pidfd_open(2)).
func (id Identity) Open() (pidfd int, err error) {
	if id.PID <= 0 {
		return -1, fmt.Errorf("open process %d: %w", id.PID, unix.ESRCH)
	}
	pidfd, err = unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	if err := id.check(); err != nil {
		unix.Close(pidfd)
		return -1, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	return pidfd, nil
}

// check returns nil if the process is alive, else why not, wrapping ESRCH.
func (id Identity) check() error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	if boot != id.BootID {
		return fmt.Errorf("it ran before the last boot: %w", unix.ESRCH)
	}
	state, start, err := statOf(id.PID)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return unix.ESRCH
	case err != nil:
		return err
	case start != id.Start:
		return fmt.Errorf("the number belongs to another process now: %w", unix.ESRCH)
	case state == 'Z' || state == 'X' || state == 'x':
		return fmt.Errorf("it has ended (state %c): %w", state, unix.ESRCH)
	}
	return nil
}

// text is the content of a pidfile; parse is its inverse.
func (id Identity) text() []byte {
	return fmt.Appendf(nil, "%d\nstart=%d boot=%s\n", id.PID, id.Start, id.BootID)
}

// parse reads what text has written and nothing else: a cut one has no newline at its end, and a number is written in one way
// only.
func parse(b []byte) (Identity, error) {
	if len(b) == 0 {
		return Identity{}, errors.New("it is empty")
	}
	garbage := errors.New("it does not say \"pid\", and \"start=starttime boot=bootid\" on a second line")
	first, rest, _ := bytes.Cut(b, []byte("\nstart="))
	second, boot, _ := bytes.Cut(rest, []byte(" boot="))
	boot, ok := bytes.CutSuffix(boot, []byte("\n"))
	if !ok || !isUUID(boot) {
		return Identity{}, garbage
	}
	pid, err1 := strconv.ParseInt(string(first), 10, 32)
	start, err2 := strconv.ParseUint(string(second), 10, 64)
	if err1 != nil || err2 != nil || pid <= 0 {
		return Identity{}, garbage
	}
	id := Identity{PID: int(pid), Start: start, BootID: string(boot)}
	if !bytes.Equal(id.text(), b) {
		return Identity{}, garbage
	}
	return id, nil
}

// parseStat takes the state (field 3) and the start time (field 22) from the text of /proc/PID/stat. Field 2 is the name in
// parentheses and may itself hold blanks and parentheses, so fields are counted from the last ')'.
func parseStat(b []byte) (state byte, start uint64, err error) {
	const first, stateField, startField = 3, 3, 22
	malformed := errors.New("malformed stat line")
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return 0, 0, malformed
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) <= startField-first || len(fields[stateField-first]) != 1 {
		return 0, 0, malformed
	}
	start, err = strconv.ParseUint(string(fields[startField-first]), 10, 64)
	if err != nil {
		return 0, 0, malformed
	}
	return fields[stateField-first][0], start, nil
}

func statOf(pid int) (state byte, start uint64, err error) {
	name := fmt.Sprintf("/proc/%d/stat", pid)
	b, err := os.ReadFile(name)
	if errors.Is(err, unix.ESRCH) { // it ended between open and read
		err = fmt.Errorf("%s: %w", name, os.ErrNotExist)
	}
	if err != nil {
		return 0, 0, err
	}
	if state, start, err = parseStat(b); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", name, err)
	}
	return state, start, nil
}

func bootID() (string, error) {
	const name = "/proc/sys/kernel/random/boot_id"
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	b = bytes.TrimSpace(b)
	if !isUUID(b) {
		return "", fmt.Errorf("%s: not a boot id", name)
	}
	return string(b), nil
}

// isUUID reports whether b looks like 12345678-9abc-def0-1234-56789abcdef0.
func isUUID(b []byte) bool {
	if len(b) != 36 {
		return false
	}
	for i, c := range b {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if dash != (c == '-') || !dash && !hex {
			return false
		}
	}
	return true
}

// openToRead opens a regular file without following a link and without waiting for the other end of a fifo.
func openToRead(path string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(path, flags, 0)
		return err
	})
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return -1, fmt.Errorf("it is not a regular file: %w", ErrUnsafe)
	}
	return fd, nil
}

func readIdentity(fd int) (Identity, error) {
	var buf [maxContent + 1]byte
	var n int
	err := retry(func() (err error) {
		n, err = unix.Pread(fd, buf[:], 0)
		return err
	})
	if err != nil {
		return Identity{}, err
	}
	return parse(buf[:n])
}
