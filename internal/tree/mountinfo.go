package tree

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroup returns the directory of the cgroup v2 that this process is in, "" if it cannot be reached.
func (p proc) cgroup() (string, error) {
	own, err := readFile(string(p) + "/self/cgroup")
	if err != nil {
		return "", err
	}
	path, ok := unifiedPath(own)
	if !ok {
		return "", nil
	}
	info, err := readFile(string(p) + "/self/mountinfo")
	if err != nil {
		return "", err
	}
	// The last mount hides those before it, if they are at the same place.
	dirs := cgroupDirs(info, path)
	for i := len(dirs) - 1; i >= 0; i-- {
		if isOwn(dirs[i]) {
			return dirs[i], nil
		}
	}
	return "", nil
}

// isOwn reports whether this process is in the cgroup at dir. A container may show another one under the same name.
func isOwn(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return false
	}
	b, err := readFile(dir + "/cgroup.procs")
	if err != nil {
		return false
	}
	self := strconv.Itoa(unix.Getpid())
	for field := range bytes.FieldsSeq(b) {
		if string(field) == self {
			return true
		}
	}
	return false
}

// unifiedPath returns the path in the line of /proc/PID/cgroup that is about version 2, "0::/path" (cgroups(7)).
func unifiedPath(b []byte) (string, bool) {
	for line := range bytes.Lines(b) {
		path, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("0::"))
		if ok {
			return string(path), bytes.HasPrefix(path, []byte("/")) && !bytes.HasSuffix(path, []byte(" (deleted)"))
		}
	}
	return "", false
}

// cgroupDirs returns where the cgroup with the given path can be seen, in the order of /proc/PID/mountinfo
// (proc_pid_mountinfo(5)). A mount may show a part of the hierarchy only: then its root, field 4, is the path of that
// part. Both are seen from the cgroup namespace; what lies outside of it begins with "/.." and cannot be found by name.
func cgroupDirs(info []byte, path string) []string {
	var dirs []string
	for line := range bytes.Lines(info) {
		before, after, ok := strings.Cut(string(line), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 6 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		root, point := unescape(fields[3]), unescape(fields[4])
		below, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
		if !ok || below != "" && below[0] != '/' || strings.HasPrefix(below+"/", "/../") {
			continue
		}
		dirs = append(dirs, point+strings.TrimSuffix(below, "/"))
	}
	return dirs
}

// unescape undoes what mountinfo does to blanks, tabs, newlines and backslashes: three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
