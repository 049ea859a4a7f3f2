package tree

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"unicode"

	"golang.org/x/sys/unix"
)

// A proc is where a proc file system is mounted.
type proc string

// theProc is the one that the package works with.
const theProc proc = "/proc"

// A status is what the package needs to know of a process or a thread.
type status struct {
	state byte
	ppid  int
	start uint64 // clock ticks since boot; together with the id it names one process for all time
	alone bool   // it has no threads but the first
}

var errMalformed = errors.New("malformed stat line")

// parseStat reads the text of /proc/PID/stat (proc_pid_stat(5)). Field 2 is the name in parentheses, which the process
// may choose: it can hold blanks, newlines and parentheses. So fields are counted from the last ')', after which only
// numbers and the state follow.
func parseStat(b []byte) (status, error) {
	const first, state, ppid, threads, start = 3, 3, 4, 20, 22
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return status{}, errMalformed
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) <= start-first || len(fields[state-first]) != 1 || !unicode.IsLetter(rune(fields[state-first][0])) {
		return status{}, errMalformed
	}
	parent, err1 := strconv.ParseInt(string(fields[ppid-first]), 10, 32)
	started, err2 := strconv.ParseUint(string(fields[start-first]), 10, 64)
	if err1 != nil || err2 != nil || parent < 0 {
		return status{}, errMalformed
	}
	return status{
		state: fields[state-first][0],
		ppid:  int(parent),
		start: started,
		alone: len(fields[threads-first]) == 1 && fields[threads-first][0] <= '1',
	}, nil
}

// ended reports whether only an entry in the process table is left. If the first thread ends before others, the process
// looks like a zombie and is none.
func (s status) ended() bool { return s.over() && s.alone }

func (s status) over() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

// atRest reports whether a thread that has been sent SIGSTOP can do nothing any more. D counts as rest, because the
// parent of a vfork(2) sleeps that way until its child, which is stopped too, is killed.
func (s status) atRest() bool {
	return s.over() || s.state == 'T' || s.state == 't' || s.state == 'D'
}

func (p proc) dir(pid int) string { return string(p) + "/" + strconv.Itoa(pid) }

// stat returns the status of a process; the error wraps fs.ErrNotExist if there is none.
func (p proc) stat(pid int) (status, error) { return readStat(p.dir(pid) + "/stat") }

func readStat(name string) (status, error) {
	b, err := readFile(name)
	if err != nil {
		return status{}, err
	}
	s, err := parseStat(b)
	if err != nil {
		return status{}, &os.PathError{Op: "parse", Path: name, Err: err}
	}
	return s, nil
}

// tasks returns the ids of a process's threads.
func (p proc) tasks(pid int) ([]int, error) { return numbers(p.dir(pid) + "/task") }

// atRest reports whether all of the given threads of a process are at rest.
func (p proc) atRest(pid int, tids []int) (bool, error) {
	for _, tid := range tids {
		s, err := readStat(p.dir(pid) + "/task/" + strconv.Itoa(tid) + "/stat")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !s.atRest() {
			return false, err
		}
	}
	return true, nil
}

// marked reports whether a process was started with one of some entries, which are NAME=value, in its environment.
func (p proc) marked(pid int, entries []string) (bool, error) {
	b, err := readFile(p.dir(pid) + "/environ")
	if err != nil {
		return false, err
	}
	for one := range bytes.SplitSeq(b, []byte{0}) {
		if slices.Contains(entries, string(one)) {
			return true, nil
		}
	}
	return false, nil
}

// numbers returns the names in a directory that are numbers.
func numbers(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, notExist(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, notExist(err)
	}
	var all []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil && n >= 0 {
			all = append(all, n)
		}
	}
	return all, nil
}

// readFile is os.ReadFile without asking Go's poller, which cannot poll these files: half the system calls.
func readFile(name string) ([]byte, error) {
	fd, err := ignoringEINTR(func() (int, error) { return unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, notExist(&os.PathError{Op: "open", Path: name, Err: err})
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 1024)
	for {
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, b[len(b):cap(b)]) })
		if err != nil {
			return nil, notExist(&os.PathError{Op: "read", Path: name, Err: err})
		}
		if n == 0 {
			return b, nil
		}
		b = b[:len(b)+n]
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// notExist makes one error of the two that a process gives which ends before its file is opened, or after.
func notExist(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fs.ErrNotExist
	}
	return err
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
