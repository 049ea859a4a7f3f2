package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// removal is how long Remove waits for the processes in a group to end.
const removal = time.Second

// A Group is a control group (cgroups(7), version 2) in which this process may make others. What is started in a group
// cannot leave it without the right to write to another one, however often it forks.
type Group struct {
	// Path is its directory.
	Path string
}

// Delegated returns the cgroup v2 that this process is in, or nil if there is none or it is not ours to divide.
//
// It is ours if systemd says so (Delegate=yes sets the extended attribute user.delegate or trusted.delegate, systemd's
// CGROUP_DELEGATION document), or if we are not root and it belongs to us. That root may write everywhere does not make
// it ours: on a host with systemd only systemd may. It needs cgroup.kill, which came with Linux 5.14.
func Delegated() (*Group, error) {
	dir, err := theProc.cgroup()
	if err != nil {
		return nil, fmt.Errorf("find own cgroup: %w", err)
	}
	if dir == "" || unix.Access(dir+"/cgroup.kill", unix.F_OK) != nil {
		return nil, nil
	}
	if !markedDelegated(dir) && !owned(dir, os.Geteuid()) {
		return nil, nil
	}
	return &Group{dir}, nil
}

func markedDelegated(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		var value [2]byte // a longer one is an error
		if n, err := unix.Getxattr(dir, name, value[:]); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// owned reports whether a cgroup was given to a user. He needs its cgroup.procs too: to move a process from the group
// itself into one below it takes the right to write there (cgroups(7), delegation containment).
func owned(dir string, euid int) bool {
	if euid == 0 {
		return false
	}
	for _, name := range []string{dir, dir + "/cgroup.procs"} {
		var st unix.Stat_t
		if unix.Stat(name, &st) != nil || int(st.Uid) != euid {
			return false
		}
		if unix.Faccessat(unix.AT_FDCWD, name, unix.W_OK, unix.AT_EACCESS) != nil { // mounted read-only, as in most containers
			return false
		}
	}
	return true
}

// Leaf makes a group for one child and opens it. The name must be new.
func (g *Group) Leaf(name string) (*Leaf, error) {
	if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return nil, fmt.Errorf("make cgroup: %q is not a name", name)
	}
	path := g.Path + "/" + name
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		unix.Rmdir(path)
		return nil, fmt.Errorf("open cgroup %s: %w", path, err)
	}
	return &Leaf{path: path, fd: fd}, nil
}

// OpenLeaf opens a leaf that this process has made before it replaced itself with exec(2), by its directory.
func OpenLeaf(path string) (*Leaf, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", path, err)
	}
	return &Leaf{path: path, fd: fd}, nil
}

// Clean removes the empty groups whose names are stale: those that a parent has left that was killed. A group with
// processes in it cannot be removed and stays.
func (g *Group) Clean(stale func(name string) bool) error {
	entries, err := os.ReadDir(g.Path)
	if err != nil {
		return fmt.Errorf("clean up cgroups: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !stale(e.Name()) {
			continue
		}
		err := unix.Rmdir(g.Path + "/" + e.Name())
		if err != nil && err != unix.EBUSY && err != unix.ENOENT {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", e.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// A Leaf is a group that was made for one child.
type Leaf struct {
	path string
	fd   int
}

// Path returns its directory.
func (l *Leaf) Path() string { return l.path }

// FD returns the descriptor of its directory, for the CgroupFD of syscall.SysProcAttr with UseCgroupFD. The leaf keeps
// it.
func (l *Leaf) FD() int { return l.fd }

// Kill sends SIGKILL to every process in the leaf and in the groups below it, in one step: no fork gets away. A leaf
// that is removed has none.
func (l *Leaf) Kill() error {
	if l.fd < 0 {
		return nil
	}
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(l.fd, "cgroup.kill", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	})
	if err == nil {
		_, err = ignoringEINTR(func() (int, error) { return unix.Write(fd, []byte("1")) })
		unix.Close(fd)
	}
	if err != nil && err != unix.ENOENT && err != unix.ENODEV {
		return fmt.Errorf("kill cgroup %s: %w", l.path, err)
	}
	return nil
}

// Remove kills what is in the leaf and removes it, with the groups that somebody has made below it. It waits, for at
// most a second, until the last process has ended. It may be called again, also after a success.
func (l *Leaf) Remove() error {
	if err := l.Kill(); err != nil {
		return err
	}
	deadline := time.Now().Add(removal)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := removeGroup(l.path)
		if err != unix.EBUSY {
			if err != nil {
				return fmt.Errorf("remove cgroup %s: %w", l.path, err)
			}
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: its processes have not ended within %v: %w", l.path, removal, err)
		}
		time.Sleep(pause)
	}
}

// removeGroup removes a group and those below it. The error of a group with processes in it is EBUSY.
func removeGroup(path string) error {
	err := unix.Rmdir(path)
	if err == unix.ENOENT {
		return nil
	}
	if err != unix.EBUSY {
		return err
	}
	entries, rerr := os.ReadDir(path)
	if errors.Is(rerr, fs.ErrNotExist) {
		return nil
	}
	below := false
	for _, e := range entries {
		if e.IsDir() {
			below = true
			if err := removeGroup(path + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	if below {
		err = unix.Rmdir(path)
	}
	return err
}

// Close closes the descriptor. It does not remove the leaf.
func (l *Leaf) Close() error {
	if l.fd < 0 {
		return nil
	}
	fd := l.fd
	l.fd = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close cgroup %s: %w", l.path, err)
	}
	return nil
}
