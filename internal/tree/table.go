package tree

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
)

// A table tells who is whose child.
type table interface {
	// look is called before a round of questions.
	look() error
	// children returns the ids of the children of a process with the given threads. The answer may be old or
	// incomplete: a program that forks is faster than any reader.
	children(pid int, tids []int) ([]int, error)
}

// tableOf returns the cheaper table that the kernel offers.
func tableOf(p proc) table {
	pid := os.Getpid()
	// The file is there only if the kernel was built with CONFIG_PROC_CHILDREN (proc_tid_children(5)).
	if _, err := os.Stat(p.dir(pid) + "/task/" + strconv.Itoa(pid) + "/children"); err == nil {
		return lists{p}
	}
	return &scan{proc: p}
}

// lists is a table that reads the kernel's own lists of children: its cost is that of the tree, not of the host. A list
// may miss somebody if others in it end while it is read (proc_tid_children(5)).
type lists struct{ proc }

func (l lists) look() error { return nil }

func (l lists) children(pid int, tids []int) ([]int, error) {
	var all []int
	for _, tid := range tids {
		b, err := readFile(l.dir(pid) + "/task/" + strconv.Itoa(tid) + "/children")
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread has ended and another one has its children now
		}
		if err != nil {
			return nil, err
		}
		for field := range bytes.FieldsSeq(b) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				all = append(all, child)
			}
		}
	}
	return all, nil
}

// scan is a table that reads the status of every process there is.
type scan struct {
	proc
	below map[int][]int
}

func (s *scan) look() error {
	pids, err := numbers(string(s.proc))
	if err != nil {
		return err
	}
	s.below = make(map[int][]int)
	for _, pid := range pids {
		st, err := s.stat(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		s.below[st.ppid] = append(s.below[st.ppid], pid)
	}
	return nil
}

func (s *scan) children(pid int, _ []int) ([]int, error) { return s.below[pid], nil }

// childrenOf returns the children of a process, by a fresh look.
func childrenOf(p proc, t table, pid int) ([]int, error) {
	if err := t.look(); err != nil {
		return nil, err
	}
	tids, err := p.tasks(pid)
	if err != nil {
		return nil, err
	}
	return t.children(pid, tids)
}
