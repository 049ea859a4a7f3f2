package daemon

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

// papers are what the children of a generation are to know, beyond their program and their environment, and what has to stay as it
// was when the generation began: a child that is started hours later, in the place of one that has died, must be like its
// siblings, whatever has become of the files by then. They travel as JSON in a memory file that nobody can change.
type papers struct {
	Config *configText       `json:"config,omitempty"` // the configuration file; nil: there is none
	Listen []listening       `json:"listen"`           // in the order of the descriptors
	Files  map[string][]byte `json:"files,omitempty"`  // that they need, by path: certificates and keys
}

// A listening is what a child knows of a listener beside the descriptor.
type listening struct {
	Name string     `json:"name"`
	Spec listenSpec `json:"spec"` // the whole entry, of which it is one address
}

// allSeals are of a memory file that stays as it is.
const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// papers are those of a generation that begins now, under these terms.
func (p *Parent) papers(t *terms) papers {
	known := papers{Config: t.file}
	for _, l := range p.listeners {
		known.Listen = append(known.Listen, listening{l.spec.nameOf(l.asked), l.spec})
	}
	return known
}

// sealPapers makes the papers of a generation that begins now: a memory file, of which it returns the descriptor.
func (p *Parent) sealPapers(t *terms) (int, error) {
	known := p.papers(t)
	if err := p.collect(&known.Files, p.specs()); err != nil {
		return -1, err
	}
	return known.seal()
}

// renewPapers brings what the parent before this one has given to a generation to what is so now. It closes the old ones, and returns
// what the new ones say.
func (p *Parent) renewPapers(fd int) (int, papers, error) {
	known, err := readPapers(fd)
	if err != nil {
		return -1, known, err
	}
	unix.Close(fd)
	known.Listen = p.papers(p.now()).Listen
	if err := p.collect(&known.Files, p.specs()); err != nil {
		// They were there a moment ago, at the trial. Who is started without them says so.
		p.log.Error("children of old generations cannot be replaced", "err", err)
	}
	fd, err = known.seal()
	return fd, known, err
}

// seal writes papers into a memory file and returns its descriptor.
func (known papers) seal() (int, error) {
	content, err := json.Marshal(known)
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("brood", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	_, err = unix.Pwrite(fd, content, 0) // a memory file takes all or, without memory, fails
	err = os.NewSyscallError("pwrite", err)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, allSeals)
		err = os.NewSyscallError("fcntl", err)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// readPapers reads what a child, or a trial for one, has inherited. What is not sealed is no parent's.
func readPapers(fd int) (papers, error) {
	var known papers
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&allSeals != allSeals {
		return known, fmt.Errorf("descriptor %d is no parent's: unset the environment variable %s", fd, inherit.Var)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return known, os.NewSyscallError("fstat", err)
	}
	content := make([]byte, st.Size)
	n, err := unix.Pread(fd, content, 0)
	if err != nil {
		return known, os.NewSyscallError("pread", err)
	}
	if err := json.Unmarshal(content[:n], &known); err != nil {
		return known, fmt.Errorf("what the parent has written cannot be read: %w", err)
	}
	return known, nil
}
