package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/brooddaemon/brood/internal/conffile"
)

// answers does what -check-config and -show-config ask for. done says that there is nothing else to do.
func (s *settings) answers(cfg Config) (done bool, err error) {
	if s == nil || !s.check && !s.show {
		return false, nil
	}
	q, warnings, err := settleConfig(cfg)
	if err != nil {
		return true, s.blamed(err)
	}
	if err := q.cfg.allowed(); err != nil {
		return true, err
	}
	if s.file != nil {
		if err := s.trusted(); err != nil {
			warnings = append(warnings, untrustedConfig+": "+err.Error())
		}
	}
	for _, w := range warnings {
		fmt.Fprintln(os.Stderr, "warning:", w)
	}
	if s.show {
		return true, s.print(os.Stdout, &q.cfg)
	}
	q.log = slog.New(slog.DiscardHandler)
	specs, err := parseListens(q.cfg.Listen)
	if err == nil {
		err = q.tryPairs(specs)
	}
	if err != nil {
		return true, err
	}
	_, err = fmt.Println("ok")
	return true, err
}

// print writes a configuration, which is complete, as a file, with where each setting comes from.
func (s *settings) print(to io.Writer, cfg *Config) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	// What follows a tab is padded; a comment behind it is not, and no value has a tab outside of quotes.
	line := func(name, value, origin string) {
		fmt.Fprintf(w, "%s\t%s\t# %s\n", key(name), conffile.Quote(value), origin)
	}
	of := settingsOf(cfg)
	for i, x := range of.fields {
		f, origin := of.fs.Lookup(x.name), s.origin(i)
		values, places := []string{f.Value.String()}, s.places(x.name)
		if l, isList := f.Value.(*list); isList && len(*l.values) > 0 {
			values = *l.values
		}
		if x.name == configFlag { // for people: a file cannot say it
			fmt.Fprintf(w, "# %s\t%s\t# %s\n", x.name, conffile.Quote(values[0]), origin)
			continue
		}
		for n, v := range values {
			at := origin
			if len(places) == len(values) && origin == places[0] { // each has its own line
				at = places[n]
			}
			line(x.name, v, at)
		}
	}
	s.printOwn(line)
	return w.Flush()
}

// printOwn writes what the file or the command line says of the program's own flags.
func (s *settings) printOwn(line func(name, value, origin string)) {
	known := map[string]bool{checkFlag: true, showFlag: true}
	for _, x := range s.fields {
		known[x.name] = true
	}
	for _, e := range s.entries {
		if f := s.lookUp(e.Key); !known[f.Name] && !s.given[f.Name] {
			line(e.Key, e.Value, s.place(e))
		}
	}
	for name := range s.given {
		if !known[name] {
			line(name, s.fs.Lookup(name).Value.String(), "command line")
		}
	}
}

func (s *settings) place(e conffile.Entry) string { return fmt.Sprintf("%s:%d", s.file.Path, e.Line) }

// places are the lines of the file that set a flag.
func (s *settings) places(name string) (all []string) {
	for _, e := range s.entries {
		if f := s.lookUp(e.Key); f != nil && f.Name == name {
			all = append(all, s.place(e))
		}
	}
	return all
}

// origin says where the value of a setting comes from.
func (s *settings) origin(i int) string {
	name := s.fields[i].name
	switch {
	case s.given[name]:
		return "command line"
	case s.own[name]:
		return "code"
	case s.env[name] != "":
		return "environment " + variable(name)
	}
	if places := s.places(name); len(places) > 0 {
		return places[0]
	}
	if !same(fieldsOf(&s.pristine)[i].at, fieldsOf(new(Config))[i].at) {
		return "code"
	}
	return "default"
}

// untrustedConfig is what the log is told of a file that a reload will refuse.
const untrustedConfig = "others than root can change the configuration file: a reload will be refused"

// trusted judges the file that was read.
func (s *settings) trusted() error {
	_, err := readConfig(s.file.Path, func(fd int) error { return s.trust(s.file.Path, fd) })
	return err
}

// blamed adds to an error about what Run has got the line of the file without which there would be none.
func (s *settings) blamed(err error) error {
	if err == nil || s == nil || s.file == nil {
		return err
	}
	return s.blame(s.file.Path, s.entries, err)
}

// blame is blamed for any entries.
func (s *settings) blame(path string, entries []conffile.Entry, err error) error {
	for i, e := range entries {
		cfg, werr := s.with(append(entries[:i:i], entries[i+1:]...))
		if werr != nil {
			continue
		}
		if _, _, werr = settleConfig(cfg); werr == nil {
			return &conffile.Error{File: path, Line: e.Line, Text: fmt.Sprintf("key %q: %s", e.Key, strings.TrimPrefix(err.Error(), path+": "))}
		}
	}
	return err
}
