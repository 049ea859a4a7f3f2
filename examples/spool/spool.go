package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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
// A job is handed in as new/ID, with an ID of 200 bytes at most that is used once and does not begin with a dot; anything
// else there is left alone. From its first attempt on it is ID:TRIES@TIME: how many attempts have begun, and in new/ the time
// before which it is not tried again, elsewhere when it came there, in milliseconds since 1970.
//
// Who moves a file out of new/ or cur/ holds its lock (flock(2)). The kernel drops that when the process is no more,
// however it ended, so a job in cur/ that can be locked is one whose child has died. Nobody has to be asked who is alive.
//
// What is promised: a job that is in new/, and for put on the disk, comes to done/ or failed/, and its work was begun at
// least once. It is begun again if a child, or the machine, dies before the job is in done/. For that the file system must
// be local, and one on which a rename is all or nothing also when power fails, as ext4, xfs and btrfs are.
type spool struct {
	dir      string
	attempts int
	backoff  time.Duration   // after the first attempt
	passed   map[string]bool // what this child has passed over, and said so
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
	f, err := os.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(temp, filepath.Join(s.dir, dir, name))
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Join(s.dir, dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A job is a file of new/ or cur/ whose lock this process has, until it closes f.
type job struct {
	id    string
	tries int // attempts that have begun
	path  string
	f     *os.File
}

const maxID = 200 // bytes, which leaves room for what comes behind an ID

var begun = regexp.MustCompile(`^(.+):([0-9]{1,9})@([0-9]{1,15})$`)

// recover puts back a job whose child has died. That it did may be the fault of the job: it counts as an attempt.
func (s *spool) recover() error {
	j, err := s.first("cur")
	if j == nil {
		return err
	}
	defer j.f.Close()
	return s.retry(j, errors.New("the child that had the job has died"))
}

// first locks and returns the first job in a directory that nobody else has and that, in new/, is due; or nil.
func (s *spool) first(dir string) (*job, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, dir)) // in order
	for _, e := range entries {
		name := e.Name()
		var due time.Time
		j := &job{id: name, path: filepath.Join(s.dir, dir, name)}
		if m := begun.FindStringSubmatch(name); m != nil {
			ms, _ := strconv.ParseInt(m[3], 10, 64)
			j.id, due = m[1], time.UnixMilli(ms)
			j.tries, _ = strconv.Atoi(m[2])
		}
		if name[0] == '.' || len(j.id) > maxID || !e.Type().IsRegular() || dir == "new" && time.Now().Before(due) {
			continue
		}
		err := j.lock()
		if err == nil {
			return j, nil
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) && !s.passed[name] {
			s.passed[name] = true
			log.Println("passed over:", err)
		}
	}
	return nil, err
}

// lock takes a job's lock. The error is ErrNotExist or EWOULDBLOCK if somebody else has the job, or has had it meanwhile.
func (j *job) lock() (err error) {
	if j.f, err = os.Open(j.path); err != nil {
		return err
	}
	if err = unix.Flock(int(j.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		// It may have been moved before; now nobody else does, and what is at the path is this file: the ID is its own.
		_, err = os.Lstat(j.path)
	}
	if err != nil {
		j.f.Close()
	}
	return err
}

// move moves a job on.
func (s *spool) move(j *job, dir string, tries int, at time.Time) error {
	to := filepath.Join(s.dir, dir, fmt.Sprintf("%s:%d@%d", j.id, tries, at.UnixMilli()))
	err := os.Rename(j.path, to)
	if err == nil {
		j.path, j.tries = to, tries
	}
	return err
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
	pause := s.backoff
	for range j.tries - 1 {
		pause = min(2*pause, 5*time.Minute)
	}
	return s.move(j, "new", j.tries, time.Now().Add(pause))
}
