package reload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Fingerprint identifies the content of one program file. Two are equal, by ==, exactly if size, bytes and
// executable bits are equal; the name, the inode and all times are left out, so that a copy or a touch is the same
// program. The zero Fingerprint is that of no file, not even of an empty one. It survives encoding/json.
type Fingerprint struct {
	Size   int64    // bytes
	Exec   uint32   // the three executable bits of the mode: a build fails differently after chmod +x
	SHA256 [32]byte // of the content
}

// FingerprintOf reads the whole regular file at path and returns its Fingerprint. A file that is already open, if
// only as O_PATH, is named by /proc/self/fd/N. Errors: the file is missing, not regular or not readable
// (fs.ErrNotExist, fs.ErrPermission), or it changed while it was read (ErrMoving). It takes as long as hashing takes, 1 ms
// for each MB or less. Safe for use by several goroutines.
func FingerprintOf(path string) (Fingerprint, error) {
	f, st, err := openRegular(path)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("reload: fingerprint: %w", err)
	}
	defer f.Close()
	sum, err := sha(context.Background(), f, st)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("reload: fingerprint of %s: %w", path, err)
	}
	return Fingerprint{Size: st.size, Exec: st.exec(), SHA256: sum}, nil
}

// String returns the first 12 hexadecimal digits of the hash, enough to tell builds apart in a log. The zero
// Fingerprint is "none".
func (f Fingerprint) String() string {
	if f == (Fingerprint{}) {
		return "none"
	}
	return hex.EncodeToString(f.SHA256[:6])
}

// openRegular opens a regular file for reading, without ever waiting for what may have taken its place.
func openRegular(path string) (*os.File, stamp, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, stamp{}, err
	}
	st, err := stampOf(f)
	if err == nil && !st.regular() {
		err = &os.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, stamp{}, err
	}
	return f, st, nil
}

// ErrMoving is wrapped by the errors about a file that was changed or replaced while it was looked at: whoever looks again
// sees it as it is by then.
var ErrMoving = errors.New("it was changed meanwhile")

// stamp is what stat(2) says of a file. Equal stamps mean equal content, with the exception that entry.fresh
// makes; unequal ones mean that the content has to be read. ctime is in it because mtime can be set back.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // nanoseconds since 1970
	mode         uint32
}

func (s stamp) exec() uint32  { return s.mode & 0o111 }
func (s stamp) kind() uint32  { return s.mode & unix.S_IFMT }
func (s stamp) regular() bool { return s.kind() == unix.S_IFREG }
func (s stamp) link() bool    { return s.kind() == unix.S_IFLNK }
func (s stamp) dir() bool     { return s.kind() == unix.S_IFDIR }

func stampFrom(st *unix.Stat_t) stamp {
	return stamp{
		dev: uint64(st.Dev), ino: st.Ino, size: st.Size, mode: st.Mode,
		mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
	}
}

// lstamp is the stamp of a path whose last element is not followed if it is a link.
func lstamp(path string) (stamp, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Lstat(path, &st) })
	if err != nil {
		return stamp{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return stampFrom(&st), nil
}

func stampOf(f *os.File) (stamp, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return stamp{}, err
	}
	var st unix.Stat_t
	ctlErr := conn.Control(func(fd uintptr) {
		err = retry(func() error { return unix.Fstat(int(fd), &st) })
	})
	if err := errors.Join(ctlErr, os.NewSyscallError("fstat", err)); err != nil {
		return stamp{}, err
	}
	return stampFrom(&st), nil
}

// retry repeats a call that a signal interrupted, which FUSE and NFS allow even for stat.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// sha hashes a file that had the stamp st when it was opened, and fails with ErrMoving if it has another one at the
// end. It gives up when ctx ends.
func sha(ctx context.Context, f *os.File, st stamp) (sum [32]byte, err error) {
	h := sha256.New()
	buf := make([]byte, min(st.size+512, 128<<10)) // a tree has many small files
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return sum, err
		}
	}
	after, err := stampOf(f)
	if err != nil {
		return sum, err
	}
	if after.size != st.size || after.mtime != st.mtime {
		return sum, ErrMoving
	}
	h.Sum(sum[:0])
	return sum, nil
}

// justWritten says whether a file was changed so recently that a quiet time of that length cannot be: its events are
// still on their way, because this process was stopped or the machine is busy. It may have been changed a little
// after now, while the look went on. A ctime far in the future is that of a server with another clock.
func (s stamp) justWritten(now time.Time, quiet time.Duration) bool {
	age := now.Sub(time.Unix(0, s.ctime))
	return age > -quiet && age < quiet
}

// freshFor is how long after its mtime a file may be written again without a new mtime: the granularity of the
// clock is up to 10 ms in most file systems, 1 s in ext3, 2 s in FAT.
const freshFor = 2 * time.Second

// fresh says whether equal stamps prove nothing yet, because the file was written just before it was looked at.
func (s stamp) fresh(now time.Time) bool {
	age := now.Sub(time.Unix(0, s.mtime))
	return age > -freshFor && age < freshFor
}
