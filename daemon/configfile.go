package daemon

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/conffile"
	"github.com/brooddaemon/brood/internal/inherit"
	"github.com/brooddaemon/brood/reload"
)

// A configText is a configuration file as it was when it was read. Children get it in the papers of their generation, and the
// program that takes over from a parent what it has passed its trial with: what has been tried is what holds.
type configText struct {
	Path string `json:"path"` // absolute
	Text string `json:"text"`
}

// read finds out which file is the configuration file and sets the flags that it names.
func (s *settings) read(cfg *Config) {
	f := s.fs.Lookup(configFlag)
	if v := os.Getenv(variable(configFlag)); v != "" {
		f.Value.Set(v)
	}
	if v, given := s.onCommandLine(os.Args); given {
		f.Value.Set(v)
	}
	s.asked = cfg.ConfigFile
	err := s.fetch()
	if err == nil && s.file != nil {
		if s.entries, err = conffile.Parse(s.file.Path, []byte(s.file.Text)); err == nil {
			s.pending, err = s.apply(s.file.Path, s.entries)
		}
	}
	if err != nil {
		s.bad = err
		s.tell(err)
	}
}

// fetch gets the text that is for this process.
func (s *settings) fetch() (err error) {
	claim, cerr := inherit.Peek()
	if cerr != nil {
		return nil // Run says so
	}
	if claim.Role == inherit.Child || claim.Role == inherit.Trial && claim.State == 0 {
		if known, perr := readPapers(claim.Papers); perr == nil { // if not, Run says so
			s.file = known.Config
		}
		return nil
	}
	if s.asked == "" {
		return nil
	}
	path, err := filepath.Abs(s.asked)
	if err != nil {
		return err
	}
	if claim.Role == inherit.Successor {
		if s.file = handedConfig(claim.State); s.file != nil && s.file.Path == path {
			return nil
		}
	}
	s.file, err = readConfig(path, nil)
	return err
}

// handedConfig is the text that is handed over; nil: none is. It leaves the descriptor as it is.
func handedConfig(fd int) *configText {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(dup), "handover")
	defer f.Close()
	var h struct {
		Config *configText `json:"config"`
	}
	if json.NewDecoder(io.NewSectionReader(f, 0, maxHandover)).Decode(&h) != nil {
		return nil
	}
	return h.Config
}

// readConfig reads a file. trust, if it is not nil, sees what has been opened before.
func readConfig(path string, trust func(fd int) error) (*configText, error) {
	// A pipe would wait for somebody who writes.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no regular file")}
	}
	if err == nil && trust != nil {
		err = trust(int(f.Fd()))
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, conffile.MaxSize+1))
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	return &configText{path, string(text)}, nil
}

// onCommandLine returns the value of -config on a command line that package flag is about to read, the last if there are more. Flags that
// are not known yet are taken for such with a value if something follows that is no flag; if that was wrong, Run says that the file
// has not been read.
func (s *settings) onCommandLine(args []string) (value string, given bool) {
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			break
		}
		name, v, assigned := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		f := s.fs.Lookup(name)
		switch {
		case assigned, f != nil && isBool(f), i+1 == len(args), f == nil && strings.HasPrefix(args[i+1], "-"):
		default:
			i++
			v, assigned = args[i], true
		}
		if name == configFlag && assigned {
			value, given = v, true
		}
	}
	return value, given
}

// isBool reports whether a flag takes no value of its own.
func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// trust fails if this is root and others could have changed the configuration file that has been opened: it says which users
// the children are, which programs they load, and where root writes. Whom the file itself calls an owner to trust is none.
func (s *settings) trust(path string, fd int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	without, err := s.with(nil)
	if err != nil {
		return err
	}
	owners, err := lookUpOwners(without.TrustedOwner)
	if err == nil {
		err = reload.Trusted(path, fd, owners...)
	}
	if err != nil {
		return fmt.Errorf("root does only what root, or -trusted-owner, alone can have written: %w", err)
	}
	return nil
}
