package logs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// File is a log file that rotates. Its methods may be called from any goroutine; each may block as long as the disk does.
type File struct {
	path string // absolute
	max  int64  // bytes; 0 for no limit
	lj   *lumberjack.Logger
	now  func() time.Time

	mu     sync.Mutex
	closed bool
	// held is our own descriptor of the file that lumberjack writes. It carries the lock, tells the file from another one of
	// the same name, and cuts off a record that went in half. nil means that nothing is open.
	held       *os.File
	info       os.FileInfo
	size       int64
	nextRotate time.Time // after a failed rotation: not before
	failed     uint64
	lastStamp  time.Time // in the name of the last old file
	complaints complaints
}

// Open opens or creates a log file for appending, and rotates it by the rules of r.
//
// A new file has mode 0640, less the umask, and a missing directory is made with mode 0750, one level deep. A relative path
// is made absolute at once, so a later chdir does no harm. The package comment says which places are refused: the error
// wraps [ErrUnsafe], or [ErrInUse] if some process, this one included, has it open by Open already. Errors of the system wrap
// their errno. One goroutine of lumberjack's stays behind for each successful Open, even after Close; so open a log once.
func Open(path string, r Rotate) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	p, err := openPlace(abs, os.Geteuid())
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", abs, err)
	}
	f := &File{path: abs, max: r.maxBytes(), lj: r.logger(abs, p.sticky), now: time.Now}
	f.complaints.w = os.Stderr
	if err := f.use(p); err != nil {
		return nil, fmt.Errorf("open log %s: %w", abs, err)
	}
	return f, nil
}

// Write appends one record, which should end in a newline, whole or not at all.
//
// If the file would grow past its limit it is rotated first; a record longer than the limit gets a file of its own. If the
// rotation fails, the record goes into the old file: a log that is too long is better than none. A record that cannot be
// written is lost: the error is returned, counted ([File.Failed]), and reported on standard error, at most once in 10 s.
// There is no second try, but what has been written of the record is cut off again, and the next Write starts fresh.
func (f *File) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	f.mu.Lock()
	n, err := f.write(p)
	if err != nil {
		f.failed++
		err = fmt.Errorf("write log %s: %w", f.path, cause(err))
		f.complaints.add(f.now(), err)
	}
	report, to := f.complaints.take()
	f.mu.Unlock()
	if report != "" {
		io.WriteString(to, report) // outside the lock, for standard error may block too
	}
	return n, err
}

// Reopen makes later records go to the file that lies at the path now, creating it if there is none.
//
// That is for logrotate, which has renamed the old file, and for a file that was removed. If it fails, the old file stays in
// use and the error says why. The file found is checked as in [Open].
func (f *File) Reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("reopen log %s: %w", f.path, os.ErrClosed)
	}
	if err := f.open(); err != nil {
		return fmt.Errorf("reopen log %s: %w", f.path, err)
	}
	return nil
}

// Close closes the file. A later Write or Reopen is an error that wraps os.ErrClosed; a second Close does nothing.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if err := f.shut(); err != nil {
		return fmt.Errorf("close log %s: %w", f.path, cause(err))
	}
	return nil
}

// Failed returns how many records could not be written since Open.
func (f *File) Failed() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Path returns the absolute path of the log.
func (f *File) Path() string { return f.path }

func (f *File) write(p []byte) (int, error) {
	if f.closed {
		return 0, os.ErrClosed
	}
	if f.held == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	if f.max > 0 && f.size > 0 && f.size+int64(len(p)) > f.max {
		if err := f.rotate(); err != nil {
			f.complaints.add(f.now(), fmt.Errorf("rotate log %s: %w", f.path, cause(err)))
		}
		if f.held == nil {
			if err := f.open(); err != nil {
				return 0, err
			}
		}
	}
	n, err := f.lj.Write(p)
	f.size += int64(n)
	if err != nil {
		n = f.mend(n)
	}
	return n, err
}

// mend leaves the file fit for the next record after a write that failed with n bytes done. It returns how many of them
// remain in the file.
func (f *File) mend(n int) int {
	if n > 0 {
		// Only if nothing but our bytes stands at the end; somebody else may have cut the file.
		st, err := f.held.Stat()
		if err == nil && st.Size() == f.size && f.held.Truncate(f.size-int64(n)) == nil {
			f.size -= int64(n)
			n = 0
		}
	}
	if !f.named() { // lumberjack renames a file that it could not open, and opens another with a mode of its own
		f.shut()
	}
	return n
}

// open makes the file at the path the one that is written. If it cannot be had, what was open stays open.
func (f *File) open() error {
	p, err := openPlace(f.path, os.Geteuid())
	if err != nil {
		return err
	}
	return f.use(p)
}

// use locks p and goes over to it.
func (f *File) use(p place) error {
	if f.held != nil && os.SameFile(p.info, f.info) {
		// The file we have; the lock is on our first descriptor, and would refuse a second one.
		p.file.Close()
		p.file = f.held
	} else if err := p.lock(); err != nil {
		p.file.Close()
		return err
	}
	if p.sticky && f.lj.Compress { // it was not when we opened it; see Rotate.logger
		if p.file != f.held {
			p.file.Close()
		}
		return fmt.Errorf("directory %s has become writable by others: %w", filepath.Dir(f.path), ErrUnsafe)
	}
	if f.held != nil && f.held != p.file {
		f.held.Close()
	}
	f.lj.Close() // is its way to say reopen
	f.held, f.info, f.size = p.file, p.info, p.info.Size()
	// An empty write makes lumberjack open the file now, so that the caller hears of a failure, and not the first record.
	if _, err := f.lj.Write(nil); err != nil {
		f.shut()
		return cause(err)
	}
	return nil
}

// named reports whether the path still leads to the file that we write.
func (f *File) named() bool {
	info, err := os.Lstat(f.path)
	return err == nil && os.SameFile(info, f.info)
}

func (f *File) shut() error {
	err := f.lj.Close()
	if f.held != nil {
		f.held.Close()
		f.held = nil
	}
	return err
}
