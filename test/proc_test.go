package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A process is one line of the process table.
type process struct {
	pid, ppid int
	state     byte
	start     string // field 22 of /proc/PID/stat
	name      string
	command   string
}

func (p process) String() string {
	return fmt.Sprintf("%d (parent %d, %c) %s: %s", p.pid, p.ppid, p.state, p.name, p.command)
}

// lookAt reads /proc/PID.
func lookAt(pid int) (process, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, err
	}
	// The name is in parentheses and may itself hold anything.
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	rest := strings.Fields(string(stat[end+1:]))
	p := process{pid: pid, state: rest[0][0], name: string(stat[open+1 : end]), start: rest[19]}
	p.ppid, _ = strconv.Atoi(rest[1])
	line, _ := os.ReadFile(dir + "/cmdline")
	p.command = strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	return p, nil
}

// allPIDs lists the process table.
func allPIDs() []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processes returns those that were started on the site, directly or not. Zombies are not among them: they have no
// environment any more.
func (s *site) processes() []process {
	mark := []byte("\x00WORK=" + s.dir + "\x00")
	var found []process
	for _, pid := range allPIDs() {
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

// childrenOf returns the processes whose parent is pid, zombies included.
func childrenOf(pid int) []process {
	var found []process
	for _, c := range allPIDs() {
		if p, err := lookAt(c); err == nil && p.ppid == pid {
			found = append(found, p)
		}
	}
	return found
}

// isGone reports whether a process is no more. A zombie is: only its parent has not taken note.
func isGone(pid int) bool {
	p, err := lookAt(pid)
	return err != nil || p.state == 'Z' || p.state == 'X'
}

// descriptorsOf returns what the descriptors of a process lead to, by number.
func descriptorsOf(pid int) (map[int]string, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	fds := map[int]string{}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		if link, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			fds[n] = link
		}
	}
	return fds, nil
}

// identityOf returns what a pidfile says of a process: pid, start time, boot.
func identityOf(pid int) (string, error) {
	p, err := lookAt(pid)
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d\nstart=%s boot=%s", pid, p.start, bytes.TrimSpace(boot)), nil
}

// kill sends a signal to a process that may have gone.
func kill(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %v to %d: %w", sig, pid, err)
	}
	return nil
}

// stop stops a process, and returns when all of its threads have: one that runs on another processor does so a moment later.
func stop(pid int) error {
	if err := kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	return eventually(patience, func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			return failure{fmt.Errorf("process %d has no threads: %v", pid, err)}
		}
		for _, path := range threads {
			if b, err := os.ReadFile(path); err == nil && !bytes.Contains(b, []byte(") T ")) {
				return fmt.Errorf("%s: %s", path, b)
			}
		}
		return nil
	})
}
