package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A spool is a directory. Each job is one file in it, which is moved and never copied, and so is in one place at any moment:
//
//	tmp/     files that are being written; what is a day old is of somebody who died, and may be deleted
//	new/     jobs that wait
//	cur/     jobs that a child has in hand
//	done/    jobs that are done; ID.result is what came of it
//	failed/  jobs that have been given up; ID.error says why
//
// A job is handed in as new/ID. From its first attempt on it is ID:TRIES@TIME: how many attempts have begun, and in new/ the
// time before which it is not tried again, elsewhere when it came there, in milliseconds since 1970.
//
// Who moves a file out of new/ or cur/ holds its lock (flock(2)). The kernel drops that when the process is no more,
// however it ended, so a job in cur/ that can be locked is one whose child has died. Nobody has to be asked who is alive.
//
// What is promised: a job that is in new/, and for put on the disk, comes to done/ or failed/, and its work was begun at
// least once. It is begun again if a child, or the machine, dies before the job is in done/. For that the file system must
// be local, and one on which a rename is all or nothing also when power fails, as ext4, xfs and btrfs are.
type spool struct {
	dir        string
	attempts   int
	backoff    time.Duration // after the first attempt
	maxBackoff time.Duration
	said       map[string]bool // complaints of this child
}

func (s *spool) init() error {
	for _, dir := range []string{"tmp", "new", "cur", "done", "failed"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o750); err != nil {
			return err
		}
	}
	return nil
}

// put hands in a job and returns its ID, in the order of which jobs are taken. It is on the disk by then.
func (s *spool) put(text []byte) (id string, err error) {
	id = fmt.Sprintf("%d-%s", time.Now().UnixNano(), rand.Text()[:8])
	return id, s.write("new", id, text)
}

// write makes a file that is there as a whole or not at all, and is on the disk.
func (s *spool) write(dir, name string, text []byte) error {
	temp := filepath.Join(s.dir, "tmp", name)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(s.dir, dir, name)); err != nil {
		return err
	}
	d, err := os.Open(filepath.Join(s.dir, dir))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// A job is a file of new/ or cur/ whose lock this process has, until it closes f.
type job struct {
	id    string
	tries int // attempts that have begun
	path  string
	f     *os.File
}

var taken = regexp.MustCompile(`^(.+):([0-9]{1,9})@([0-9]{1,15})$`)

// parse reads a file's name.
func parse(name string) (id string, tries int, due time.Time) {
	m := taken.FindStringSubmatch(name)
	if m == nil {
		return name, 0, time.Time{}
	}
	tries, _ = strconv.Atoi(m[2])
	ms, _ := strconv.ParseInt(m[3], 10, 64)
	return m[1], tries, time.UnixMilli(ms)
}

// next returns the first job of new/ whose time has come, or nil and how long it is until there may be one.
func (s *spool) next() (j *job, wait time.Duration, err error) {
	names, err := s.list("new")
	wait = lookEvery
	for _, name := range names {
		_, _, due := parse(name)
		if d := time.Until(due); d > 0 {
			wait = min(wait, d)
			continue
		}
		if j := s.lock("new", name); j != nil {
			return j, 0, nil
		}
	}
	return nil, wait, err
}

// recover puts back the jobs whose children have died. That they did may be the fault of the job: it counts as an attempt.
func (s *spool) recover() error {
	names, err := s.list("cur")
	for _, name := range names {
		if j := s.lock("cur", name); j != nil {
			err = errors.Join(err, s.retry(j, errors.New("the child that had the job has died")))
			j.f.Close()
		}
	}
	return err
}

// list returns the names of the files in a directory, in order.
func (s *spool) list(dir string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, dir))
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// lock takes a job's lock. It returns nil if somebody else has the job, or has had it meanwhile, and if it is none: what
// somebody has put there by mistake holds up nobody.
func (s *spool) lock(dir, name string) *job {
	path := filepath.Join(s.dir, dir, name)
	// No link leads out of the spool, and no pipe makes a child wait.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err == nil {
		if err = claim(f, path); err == nil {
			id, tries, _ := parse(name)
			return &job{id, tries, path, f}
		}
		f.Close()
	}
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) && !s.said[err.Error()] {
		s.said[err.Error()] = true
		fmt.Fprintln(os.Stderr, "passed over:", err)
	}
	return nil
}

// claim locks a file that was opened at path, unless it is no longer there.
func claim(f *os.File, path string) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	// Between the open and the lock it may have been moved. From now on nobody else does.
	now, err := os.Lstat(path)
	if err != nil {
		return err
	}
	own, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !os.SameFile(own, now):
		return os.ErrNotExist
	case !own.Mode().IsRegular():
		return fmt.Errorf("%s is no file", path)
	}
	return nil
}

// move moves a job and never replaces another one.
func (s *spool) move(j *job, dir string, tries int, at time.Time) error {
	to := filepath.Join(s.dir, dir, fmt.Sprintf("%s:%d@%d", j.id, tries, at.UnixMilli()))
	if err := unix.Renameat2(unix.AT_FDCWD, j.path, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: j.path, New: to, Err: err}
	}
	j.path, j.tries = to, tries
	return nil
}

// finish files a job for good, with what came of it: that first, so that it is there when the job is.
func (s *spool) finish(j *job, dir, ext, text string) error {
	if err := s.write(dir, j.id+ext, []byte(text+"\n")); err != nil {
		return err
	}
	return s.move(j, dir, j.tries, time.Now())
}

// retry has a job tried again later, or gives it up.
func (s *spool) retry(j *job, why error) error {
	if j.tries >= s.attempts {
		return s.finish(j, "failed", ".error", fmt.Sprintf("attempt %d: %v", j.tries, why))
	}
	const doublings = 20 // of any time that makes sense
	pause := min(s.backoff<<min(max(j.tries-1, 0), doublings), s.maxBackoff)
	return s.move(j, "new", j.tries, time.Now().Add(pause))
}
