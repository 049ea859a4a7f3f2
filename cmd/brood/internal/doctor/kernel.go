package doctor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// watches compares what of inotify is used with what there is: without it, changes of files are found only by looking.
func watches(s System, d Daemon) []Finding {
	uid := s.UserID
	if d.PID != 0 {
		uid = s.user(d.PID)
	}
	var instances, watched uint64
	for _, p := range s.processes() {
		if s.user(p) != uid {
			continue
		}
		fds, _ := os.ReadDir(s.proc(p, "fd"))
		for _, fd := range fds {
			if to, _ := os.Readlink(s.proc(p, "fd", fd.Name())); to != "anon_inode:inotify" {
				continue
			}
			instances++
			info, _ := s.read(s.proc(p, "fdinfo", fd.Name()))
			watched += uint64(strings.Count("\n"+info, "\ninotify "))
		}
	}
	var found []Finding
	for _, of := range []struct {
		what, file string
		used       uint64
		much       uint64 // as many as one program may want at once
	}{{"inotify instances", "max_user_instances", instances, 1}, {"inotify watches", "max_user_watches", watched, 1024}} {
		limit, err := s.number(s.path("proc/sys/fs/inotify", of.file))
		switch {
		case err != nil:
			found = append(found, unseen(of.what, err)...)
		case of.used+of.much > limit:
			found = append(found, one(Fail, of.what, "sysctl -w fs.inotify."+of.file+"="+strconv.FormatUint(max(2*limit, 1024), 10),
				"user %d uses %d of %d: changes of files are not seen, but looked for", uid, of.used, limit)...)
		default:
			found = append(found, one(OK, of.what, "", "user %d uses %d of %d", uid, of.used, limit)...)
		}
	}
	return found
}

// goodBacklog is how many clients may wait by default in kernels since 5.4.
const goodBacklog = 4096

// backlog looks how many clients may wait to be accepted. Listeners have as many as the kernel allows when they are bound.
func backlog(s System, _ Daemon) []Finding {
	n, err := s.number(s.path("proc/sys/net/core/somaxconn"))
	switch {
	case err != nil:
		return unseen("backlog", err)
	case n < 128:
		return one(Fail, "backlog", "sysctl -w net.core.somaxconn=4096, and start the daemon anew", "%d clients may wait at a listener", n)
	case n < goodBacklog:
		return one(Warn, "backlog", "sysctl -w net.core.somaxconn=4096, and start the daemon anew", "%d clients may wait at a listener", n)
	}
	return one(OK, "backlog", "", "%d clients may wait at a listener", n)
}

// net is where the files of a network namespace are: that of the daemon, or else of this process.
func (s System) net(d Daemon, name string) string {
	if d.PID != 0 {
		return s.proc(d.PID, "net", name)
	}
	return s.path("proc/net", name)
}

// overflows tells of clients that have found a full queue since the network namespace was made.
func overflows(s System, d Daemon) []Finding {
	path := s.net(d, "netstat")
	text, err := s.read(path)
	if err != nil {
		return unseen("full queues", err)
	}
	full, dropped := counter(text, "ListenOverflows"), counter(text, "ListenDrops")
	if full > 0 {
		return one(Warn, "full queues", "more children (-max-children, brood scale), or a longer queue; look whether it grows: nstat -az TcpExtListenOverflows",
			"%d clients of this system have found a listener's queue full, and %d were dropped", full, dropped)
	}
	return one(OK, "full queues", "", "no client has found a listener's queue full")
}

// counter finds a number in /proc/net/netstat: lines in pairs, of names and of values.
func counter(text, name string) uint64 {
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) == 0 || names[0] != "TcpExt:" {
			continue
		}
		for j := range min(len(names), len(values)) {
			if names[j] == name {
				n, _ := strconv.ParseUint(values[j], 10, 64)
				return n
			}
		}
	}
	return 0
}

// silence looks at what the kernel does about clients who have fallen silent, where the daemon leaves that to it.
func silence(s System, d Daemon) []Finding {
	if d.PID == 0 {
		return nil
	}
	if d.Settings.ClientTimeout > 0 {
		return one(OK, "silent clients", "", "the daemon gives them up after %v itself", d.Settings.ClientTimeout)
	}
	retries, err := s.number(s.path("proc/sys/net/ipv4/tcp_retries2"))
	if err != nil {
		return unseen("silent clients", err)
	}
	alive, _ := s.number(s.path("proc/sys/net/ipv4/tcp_keepalive_time"))
	return one(Warn, "silent clients", "-client-timeout 75s, or sysctl net.ipv4.tcp_retries2=8",
		"-client-timeout is off: one to whom nothing is sent is never given up (tcp_keepalive_time, %v, is for sockets that ask for it), "+
			"others after tcp_retries2, %d", time.Duration(alive)*time.Second, retries)
}

// diag looks whether the kernel answers for its tables of connections.
func diag(s System, _ Daemon) []Finding {
	if s.Diag == nil {
		return nil
	}
	if err := s.Diag(); err != nil {
		return one(Warn, "inet_diag", "modprobe inet_diag tcp_diag; under systemd, AF_NETLINK in RestrictAddressFamilies=",
			"the kernel does not answer, and lists in /proc are read, which is slow where there are many connections: %v", err)
	}
	return one(OK, "inet_diag", "", "the kernel answers")
}

// deaf are the file systems that tell nobody of changes that come from elsewhere.
var deaf = []string{"nfs", "nfs4", "fuse", "9p", "cifs", "smb3", "smbfs", "ceph", "vboxsf", "virtiofs", "afs", "lustre", "glusterfs"}

// changes looks whether the file system of the program tells of changes.
func changes(s System, d Daemon) []Finding {
	if d.Program == "" {
		return nil
	}
	text, err := s.read(s.proc(max(d.PID, 1), "mountinfo"))
	if err != nil {
		if text, err = s.read(s.path("proc/self/mountinfo")); err != nil {
			return unseen("changes of files", err)
		}
	}
	point, kind := mountOf(text, filepath.Dir(d.Program))
	for _, f := range deaf {
		if kind == f || strings.HasPrefix(kind, f+".") {
			return one(Warn, "changes of files", "-auto-reload-check-every sets how often is looked; brood reload needs no event",
				"%s is on %s at %s, which does not tell of changes made elsewhere: they are looked for", d.Program, kind, point)
		}
	}
	if kind == "overlay" {
		return one(OK, "changes of files", "", "%s is on an overlay at %s, which tells of changes made inside of it, not of those made below",
			d.Program, point)
	}
	return one(OK, "changes of files", "", "%s is on %s, which tells of changes", d.Program, kind)
}

// mountOf finds the mount that a path lies on, the last one of those that cover each other.
func mountOf(mountinfo, path string) (point, kind string) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(rest) < 1 {
			continue
		}
		at := unescape(fields[4])
		if (at == "/" || path == at || strings.HasPrefix(path, at+"/")) && len(at) >= len(point) {
			point, kind = at, rest[0]
		}
	}
	return point, kind
}

// unescape reads a path as /proc writes it, with spaces and the like in octal.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
