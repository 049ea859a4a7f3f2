package daemon_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A process is what /proc says of one.
type process struct {
	pid, ppid int
	state     byte
	name      string
	command   string
}

func lookAt(pid int) (process, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, err
	}
	// The name is in parentheses and may itself hold anything.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	rest := strings.Fields(string(stat[end+1:]))
	p := process{pid: pid, state: rest[0][0], name: string(stat[open+1 : end])}
	p.ppid, _ = strconv.Atoi(rest[1])
	line, _ := os.ReadFile(dir + "/cmdline")
	p.command = strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	return p, nil
}

// gone reports whether a process has ended; nobody may have asked for its exit status yet.
func gone(pid int) bool {
	p, err := lookAt(pid)
	return err != nil || p.state == 'Z'
}

// processes returns all that were started on the site, directly or not. Who has ended has no environment any more.
func (s *site) processes() []process {
	mark := []byte("\x00" + siteVar + "=" + s.dir + "\x00")
	var found []process
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || !bytes.Contains(slices.Concat([]byte{0}, env), mark) {
			continue
		}
		if p, err := lookAt(pid); err == nil && p.state != 'Z' {
			found = append(found, p)
		}
	}
	return found
}

// cast lists the processes of the site for people.
func (s *site) cast() string {
	var b strings.Builder
	for _, p := range s.processes() {
		fmt.Fprintf(&b, "%d (parent %d, %c) %s: %s\n", p.pid, p.ppid, p.state, p.name, p.command)
	}
	return b.String()
}

// commands returns the processes of the site whose command line holds a word.
func (s *site) commands(word string) []process {
	return slices.DeleteFunc(s.processes(), func(p process) bool { return !strings.Contains(p.command, word) })
}

// descriptors returns the numbers of a process's descriptors that lead to the socket with this inode.
func descriptors(t testing.TB, pid int, inode uint64) []int {
	t.Helper()
	want := fmt.Sprintf("socket:[%d]", inode)
	var found []int
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(links) == 0 {
		t.Fatalf("descriptors of %d: %v", pid, err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == want {
			fd, _ := strconv.Atoi(filepath.Base(link))
			found = append(found, fd)
		}
	}
	return found
}

// blocking reports whether an open file of a process is in blocking mode.
func blocking(t testing.TB, pid, fd int) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(text), 8, 64)
			if err != nil {
				t.Fatal(err)
			}
			return flags&unix.O_NONBLOCK == 0
		}
	}
	t.Fatalf("no flags in %q", b)
	return true
}

// listenerInode finds the listening socket with an address in the kernel's tables.
func listenerInode(t testing.TB, network, addr string) uint64 {
	t.Helper()
	table, column := "/proc/thread-self/net/"+network, 9
	if network == "tcp4" {
		table = "/proc/thread-self/net/tcp"
	}
	if network == "unix" {
		column = 6
	}
	b, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) <= column {
			continue
		}
		switch {
		case network == "unix":
			// Connected sockets bear the path as well; a listener has the flag SO_ACCEPTCON.
			if len(f) < 8 || f[7] != addr || f[3] != "00010000" {
				continue
			}
		case f[3] != "0A" || !strings.HasSuffix(f[1], hexPort(addr)):
			continue
		}
		inode, err := strconv.ParseUint(f[column], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return inode
	}
	t.Fatalf("nobody listens on %s", addr)
	return 0
}

func hexPort(addr string) string {
	port, _ := strconv.Atoi(addr[strings.LastIndexByte(addr, ':')+1:])
	return fmt.Sprintf(":%04X", port)
}
