package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// An identity is who the children are, if that is somebody else than the parent.
type identity struct {
	uid, gid uint32
	groups   []uint32
	name     string // empty: the group alone is another one
	home     string
}

// identify finds out who the children are to be: nil, who the parent is. The warning is for the log.
//
// Only root can become somebody else. Anybody else stays who he is, with a warning: that is no less safe, and lets the
// same configuration be tried without root. RequireRoot turns it into an error.
func identify(cfg *Config) (id *identity, warning string, err error) {
	root := os.Geteuid() == 0
	if cfg.User == "" && cfg.Group == "" {
		if root && !cfg.NoFork {
			warning = "children run as root: name a Config.User, or root if that is meant"
		}
		return nil, warning, nil
	}
	id = &identity{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	if cfg.User != "" {
		if err := id.lookUpUser(cfg.User); err != nil {
			return nil, "", err
		}
	}
	if cfg.Group != "" {
		if err := id.lookUpGroup(cfg.Group); err != nil {
			return nil, "", err
		}
	}
	same := int(id.uid) == os.Geteuid() && int(id.gid) == os.Getegid()
	switch {
	case same:
		return nil, "", nil
	case !root:
		return nil, fmt.Sprintf("children go on as user %d and group %d: only root can make them user %d and group %d",
			os.Geteuid(), os.Getegid(), id.uid, id.gid), nil
	}
	if !slices.Contains(id.groups, id.gid) {
		id.groups = append(id.groups, id.gid)
	}
	if id.uid != 0 {
		warning, err = id.checkCapabilities()
	}
	return id, warning, err
}

// checkCapabilities reports what this process, which is root, lacks to have children that are not: containers and unit
// files take capabilities away.
func (id *identity) checkCapabilities() (warning string, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return "", os.NewSyscallError("capget", err)
	}
	has := func(capability uint) bool { return data[capability/32].Effective&(1<<(capability%32)) != 0 }
	for _, c := range []struct {
		capability uint
		name, what string
	}{
		{unix.CAP_SETUID, "CAP_SETUID", "start children as"},
		{unix.CAP_SETGID, "CAP_SETGID", "start children as"},
		{unix.CAP_KILL, "CAP_KILL", "end children of"},
	} {
		if !has(c.capability) {
			return "", fmt.Errorf("cannot %s user %d: the parent needs the capability %s", c.what, id.uid, c.name)
		}
	}
	if !has(unix.CAP_SYS_PTRACE) {
		return "without CAP_SYS_PTRACE the parent sees neither the connections of its children nor what they leave behind when " +
			"they are killed from outside: their own eyes and sweeps remain", nil
	}
	return "", nil
}

// lookUpUser takes a name or a number. A number need not be known to the system.
func (id *identity) lookUpUser(s string) error {
	u, err := user.Lookup(s)
	if n, nerr := strconv.ParseUint(s, 10, 31); err != nil && nerr == nil {
		if u, err = user.LookupId(s); err != nil {
			id.uid, id.gid, id.name, id.home = uint32(n), uint32(n), s, "/"
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("field User is %q: %w; want the name or the number of a user", s, err)
	}
	id.name, id.home = u.Username, u.HomeDir
	if id.uid, err = number(u.Uid); err != nil {
		return fmt.Errorf("user %s: %w", s, err)
	}
	if id.gid, err = number(u.Gid); err != nil {
		return fmt.Errorf("user %s: %w", s, err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("groups of user %s: %w", s, err)
	}
	for _, g := range groups {
		n, err := number(g)
		if err != nil {
			return fmt.Errorf("groups of user %s: %w", s, err)
		}
		id.groups = append(id.groups, n)
	}
	return nil
}

func (id *identity) lookUpGroup(s string) error {
	g, err := user.LookupGroup(s)
	if err != nil {
		if id.gid, err = number(s); err != nil {
			return fmt.Errorf("field Group is %q: want the name or the number of a group", s)
		}
		return nil
	}
	id.gid, err = number(g.Gid)
	return err
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31) // -1 has a meaning of its own to setuid(2)
	return uint32(n), err
}

// credential is what the children are started with.
func (id *identity) credential() *syscall.Credential {
	if id == nil {
		return nil
	}
	return &syscall.Credential{Uid: id.uid, Gid: id.gid, Groups: id.groups}
}

// environ are the variables that follow the user.
func (id *identity) environ() []string {
	if id == nil || id.name == "" {
		return nil
	}
	return []string{"USER=" + id.name, "LOGNAME=" + id.name, "HOME=" + id.home}
}

// prepareThread makes the calling thread, to which the goroutine is locked for good, the one that starts children: what
// it gives up its children have not.
//
// A thread hands its bounding set and no_new_privs to what it starts, and other threads keep theirs (capabilities(7),
// prctl(2)). Both make sure that children that are not root cannot become it again, by a setuid program for one.
func (p *Parent) prepareThread() error {
	runtime.LockOSThread()
	if p.identity == nil {
		return nil
	}
	// They start where the daemon was started, as all children do, but their user may not be allowed to go there: they
	// inherit the directory of this thread, which has been there.
	if p.cfg.Dir != "" {
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(p.startDir)
		}
		if err != nil { // containers may forbid unshare(2)
			p.log.Warn("children start in the daemon's own directory, not where it was started", "err", err)
		}
	}
	if p.identity.uid == 0 {
		return nil
	}
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel has no more
		}
		if err != nil {
			p.log.Warn("the children's bounding set stays as it is", "err", os.NewSyscallError("prctl", err))
			break
		}
	}
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}
