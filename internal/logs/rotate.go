package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"
)

// Rotate says when a log file is put aside and how long old ones are kept. The zero value means 100 MB × 10, 30 days,
// compressed.
//
// An old file lies beside the log, named after the moment of the rotation in UTC, say error-2006-01-02T15-04-05.000.log.gz.
// Old files are compressed and removed in the background, after each rotation and each time the log is opened.
type Rotate struct {
	// MaxSizeMB is the size at which the file is rotated, in megabytes of 2^20 bytes. 0 means 100; negative, never.
	MaxSizeMB int
	// Backups is how many old files are kept. 0 means 10; negative, all.
	Backups int
	// MaxAgeDays is how many days of 24 hours an old file is kept, counted from its rotation. 0 means 30; negative, for ever.
	MaxAgeDays int
	// Plain leaves old files as they are instead of compressing them with gzip.
	Plain bool
}

const (
	defaultSizeMB  = 100
	defaultBackups = 10
	defaultDays    = 30

	// outOfReach is a MaxSize for lumberjack that no file gets to: File rotates by itself.
	outOfReach = 1 << 30

	// backupTime is lumberjack's name for an old file (backupTimeFormat); by it, lumberjack knows which files to look after.
	backupTime = "2006-01-02T15-04-05.000"

	// rotatePause is how long a failed rotation is not tried again. Meanwhile the file grows.
	rotatePause = time.Second

	// maxAhead is how far the name of an old file may be ahead of the clock, to keep the order of rotations that come more
	// than once in a millisecond: lumberjack removes by name, and the names it has freed would be given out again. More than
	// this is a clock that was set back, and is followed.
	maxAhead = time.Second
)

func (r Rotate) maxBytes() int64 {
	return int64(orDefault(r.MaxSizeMB, defaultSizeMB)) << 20
}

// logger makes the one Logger of a File. In a sticky directory it must not compress: lumberjack creates the compressed file
// by name, and would follow a link that somebody else has put there.
func (r Rotate) logger(path string, sticky bool) *lumberjack.Logger {
	return &lumberjack.Logger{
		Filename:   path,
		MaxSize:    outOfReach,
		MaxBackups: orDefault(r.Backups, defaultBackups),
		MaxAge:     orDefault(r.MaxAgeDays, defaultDays),
		Compress:   !r.Plain && !sticky,
	}
}

// orDefault turns 0 into the default, and a negative number into 0, which is no limit for File and for lumberjack.
func orDefault(n, def int) int {
	if n == 0 {
		return def
	}
	return max(n, 0)
}

// rotate puts the file aside and starts a new one. After an error the old file stays in use.
func (f *File) rotate() error {
	now := f.now()
	if now.Before(f.nextRotate) {
		return nil
	}
	err := f.putAside(now)
	if err != nil {
		f.nextRotate = now.Add(rotatePause)
	}
	return err
}

func (f *File) putAside(now time.Time) error {
	if !f.named() { // somebody has put it aside for us, or removed it
		return f.open()
	}
	old, err := f.held.Stat()
	if err != nil {
		return err
	}
	stamp := now.Round(0) // without its monotonic part: names go by the wall clock, and so does this comparison
	if ahead := f.lastStamp.Sub(stamp); ahead >= 0 && ahead < maxAhead {
		stamp = f.lastStamp.Add(time.Millisecond)
	}
	backup, stamp, err := freeName(f.path, stamp)
	if err != nil {
		return err
	}
	if err := os.Rename(f.path, backup); err != nil {
		return err
	}
	f.lastStamp = stamp
	if err := f.open(); err != nil {
		if f.held != nil {
			// Still the old file: give it its name back, if nobody has taken that. If not, it goes on under the new one.
			unix.Renameat2(unix.AT_FDCWD, backup, unix.AT_FDCWD, f.path, unix.RENAME_NOREPLACE)
		}
		return err
	}
	f.inherit(old)
	return nil
}

// inherit gives the new file the mode, owner and group of the old one, which an operator may have chosen. What is not
// allowed is left: the log is more important.
func (f *File) inherit(old os.FileInfo) {
	if mode := old.Mode().Perm(); mode != f.info.Mode().Perm() {
		f.held.Chmod(mode)
	}
	was, ok1 := old.Sys().(*syscall.Stat_t)
	is, ok2 := f.info.Sys().(*syscall.Stat_t)
	if ok1 && ok2 && (was.Uid != is.Uid || was.Gid != is.Gid) {
		f.held.Chown(int(was.Uid), int(was.Gid))
	}
}

// freeName returns a name for the old file that no old file has, compressed or not, and the time in it. Two rotations in
// one millisecond, or a clock that was set back, must not put one file over another.
func freeName(path string, t time.Time) (string, time.Time, error) {
	const tries = 10000
	ext := filepath.Ext(path)
	stem := strings.TrimSuffix(path, ext)
	for range tries {
		name := fmt.Sprintf("%s-%s%s", stem, t.UTC().Format(backupTime), ext)
		if missing(name) && missing(name+".gz") {
			return name, t, nil
		}
		t = t.Add(time.Millisecond)
	}
	return "", t, fmt.Errorf("no free name for the old file: %w", fs.ErrExist)
}

func missing(name string) bool {
	_, err := os.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}
