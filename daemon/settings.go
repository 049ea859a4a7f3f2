package daemon

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/brooddaemon/brood/internal/conffile"
)

// settings are the flags of a Config, and where their values come from. From Run on nothing of it changes.
type settings struct {
	fs       *flag.FlagSet
	fields   []field // in the order of their definition
	pristine Config  // as Flags has found it
	env      map[string]string
	asked    string      // the configuration file that Flags has found named
	file     *configText // what was read of it; nil: there is none
	entries  []conffile.Entry
	pending  []conffile.Entry // of which no flag was known yet
	bad      error            // what is wrong with the file, if the program goes on all the same
	check    bool
	show     bool

	// Of Run.
	dir   string          // in which the daemon was started
	begun Config          // as Run has got it
	given map[string]bool // flags on the command line
	own   map[string]bool // settings that the program has changed after Flags
}

// A field is a setting: the name of its flag, and a pointer to it.
type field struct {
	name string
	at   any
}

// The flags that are about the configuration itself. A file cannot set them.
const (
	configFlag = "config"
	checkFlag  = "check-config"
	showFlag   = "show-config"
)

// key is how a flag's name is written in a file.
func key(flagName string) string { return strings.ReplaceAll(flagName, "-", "_") }

// variable is the environment variable of a flag.
func variable(flagName string) string { return "BROOD_" + strings.ToUpper(key(flagName)) }

// lookUp returns the flag that a key of a file means, by its own name or in snake case; nil: there is none.
func (s *settings) lookUp(key string) *flag.Flag {
	if f := s.fs.Lookup(key); f != nil {
		return f
	}
	return s.fs.Lookup(strings.ReplaceAll(key, "_", "-"))
}

// apply sets flags as a file says, and returns the entries that name none of them.
func (s *settings) apply(file string, entries []conffile.Entry) (unknown []conffile.Entry, err error) {
	lines := map[string]int{} // in which a setting stands that is no list
	for _, e := range entries {
		f := s.lookUp(e.Key)
		if f == nil {
			unknown = append(unknown, e)
			continue
		}
		wrong := ""
		_, isList := f.Value.(*list)
		ours := slices.ContainsFunc(s.fields, func(x field) bool { return x.name == f.Name })
		switch {
		case f.Name == configFlag:
			wrong = "a file cannot name another one"
		case f.Name == checkFlag, f.Name == showFlag:
			wrong = "is for the command line alone"
		case ours && !isList && lines[f.Name] != 0:
			wrong = fmt.Sprintf("stands in line %d already, and is no list", lines[f.Name])
		default:
			wrong = set(f, e.Value)
		}
		if wrong != "" {
			return nil, &conffile.Error{File: file, Line: e.Line, Text: fmt.Sprintf("key %q: %s", e.Key, wrong)}
		}
		lines[f.Name] = e.Line
	}
	for _, x := range s.fields {
		s.endSource(x)
	}
	return unknown, nil
}

// endSource makes the next one who sets a list replace what it holds.
func (s *settings) endSource(x field) {
	if l, isList := s.fs.Lookup(x.name).Value.(*list); isList {
		l.given = false
	}
}

// set sets a flag, or says what is wrong with the value.
func set(f *flag.Flag, value string) (wrong string) {
	before := f.Value.String()
	err := f.Value.Set(value)
	if err == nil {
		return ""
	}
	f.Value.Set(before) // a number that cannot be read has become 0
	want := ""
	if g, ok := f.Value.(flag.Getter); ok {
		switch g.Get().(type) {
		case bool:
			want = "want true or false"
		case int, int64, uint, uint64:
			want = "want a whole number"
		case time.Duration:
			want = "want a time with its unit, such as 90s or 5m"
		}
	}
	if want == "" {
		want = err.Error()
	}
	return fmt.Sprintf("the value is %.100q: %s", value, want)
}

// readEnvironment sets each flag from its environment variable, before the command line is read.
func (s *settings) readEnvironment() {
	s.env = map[string]string{}
	for _, x := range s.fields {
		if v := os.Getenv(variable(x.name)); v != "" { // empty is how scripts and unit files say that it is not set
			s.env[x.name] = v
		}
	}
	for _, err := range s.applyEnvironment(s.env) {
		s.tell(err)
	}
}

// applyEnvironment sets flags as environment variables say.
func (s *settings) applyEnvironment(env map[string]string) (wrong []error) {
	for _, x := range s.fields {
		v, ok := env[x.name]
		if !ok {
			continue
		}
		f := s.fs.Lookup(x.name)
		if l, isList := f.Value.(*list); isList {
			*l.values = strings.Fields(v)
			continue
		}
		if text := set(f, v); text != "" {
			wrong = append(wrong, fmt.Errorf("environment variable %s: %s", variable(x.name), text))
		}
	}
	return wrong
}

// tell tells an error in the way of the flag set.
func (s *settings) tell(err error) {
	if s.fs.ErrorHandling() == flag.PanicOnError {
		panic(err)
	}
	fmt.Fprintln(s.fs.Output(), err)
	if s.fs.ErrorHandling() == flag.ExitOnError {
		os.Exit(exitUsage)
	}
}

// exitUsage is the exit status of a program whose flags are wrong, as package flag has it.
const exitUsage = 2

// begin notes what Run has got: it is the last word on what the file and the environment do not say. The error is about the file.
func (s *settings) begin(cfg *Config) error {
	var err error
	if s.dir, err = os.Getwd(); err != nil {
		return err
	}
	s.begun, s.given, s.own = *cfg, map[string]bool{}, map[string]bool{}
	s.fs.Visit(func(f *flag.Flag) { s.given[f.Name] = true })
	if err := s.settled(cfg); err != nil {
		return err
	}
	said, _, err := s.said(s.entries)
	if err != nil {
		return err
	}
	is := fieldsOf(cfg)
	for i, x := range fieldsOf(&said) {
		s.own[x.name] = !s.given[x.name] && !same(x.at, is[i].at)
	}
	return nil
}

// settled reports what is wrong with the file, now that every flag is known.
func (s *settings) settled(cfg *Config) error {
	switch {
	case s.bad != nil:
		return s.bad
	case cfg.ConfigFile != s.asked:
		return fmt.Errorf("the configuration file is %q, and was %q when Config.Flags has read it: it must be named on the command line of the "+
			"process, in the environment, or in the field ConfigFile before", cfg.ConfigFile, s.asked)
	}
	return s.unknown(s.file, s.pending)
}

// unknown is the error about the first of the keys that name no flag; nil: there are none.
func (s *settings) unknown(file *configText, entries []conffile.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	e := entries[0]
	text := fmt.Sprintf("key %q: unknown", e.Key)
	if f := s.lookUp(e.Key); f != nil {
		text = fmt.Sprintf("key %q: the program defines the flag -%s only after Config.Flags has read the file: it has to do so before", e.Key, f.Name)
	} else if near := conffile.Nearest(key(e.Key), s.keys()); near != "" {
		text += fmt.Sprintf("; do you mean %q?", near)
	}
	return &conffile.Error{File: file.Path, Line: e.Line, Text: text}
}

// keys are what a file may say.
func (s *settings) keys() (all []string) {
	s.fs.VisitAll(func(f *flag.Flag) {
		if f.Name != configFlag && f.Name != checkFlag && f.Name != showFlag {
			all = append(all, key(f.Name))
		}
	})
	return all
}

// said returns the Config that the program's defaults, these entries and the environment make. unknown are entries that are for no
// field of it.
func (s *settings) said(entries []conffile.Entry) (cfg Config, unknown []conffile.Entry, err error) {
	cfg = s.pristine
	fresh := settingsOf(&cfg)
	path := ""
	if s.file != nil {
		path = s.file.Path
	}
	unknown, err = fresh.apply(path, entries)
	fresh.applyEnvironment(s.env) // what is wrong there has been told
	return cfg, unknown, err
}

// with returns what Run has got, but for what these entries say now. What the command line has said, and the program itself, stays.
func (s *settings) with(entries []conffile.Entry) (Config, error) {
	said, unknown, err := s.said(entries)
	if err != nil {
		return Config{}, err
	}
	unknown = slices.DeleteFunc(unknown, func(e conffile.Entry) bool { return s.lookUp(e.Key) != nil }) // the program's own
	if err := s.unknown(s.file, unknown); err != nil {
		return Config{}, err
	}
	cfg := s.begun
	to := fieldsOf(&cfg)
	for i, x := range fieldsOf(&said) {
		if !s.given[x.name] && !s.own[x.name] {
			reflect.ValueOf(to[i].at).Elem().Set(reflect.ValueOf(x.at).Elem())
		}
	}
	return cfg, nil
}

// settingsOf defines the flags of a Config for nobody's command line. It writes to each field what is there, so the Config is the caller's own.
func settingsOf(cfg *Config) *settings {
	s := &settings{fs: flag.NewFlagSet("", flag.ContinueOnError)}
	s.define(cfg)
	return s
}

// fieldsOf are the fields of a Config that can be written as text, always in the same order.
func fieldsOf(cfg *Config) []field { return settingsOf(cfg).fields }

// same reports whether two settings have one value. An empty list is one that is not there.
func same(a, b any) bool {
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	return x.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0 || reflect.DeepEqual(x.Interface(), y.Interface())
}

// begin notes what Run has got.
func (cfg *Config) begin() error {
	if cfg.settings == nil {
		return cfg.checkFile()
	}
	return cfg.settings.begin(cfg)
}

// checkFile reports what is wrong with the configuration file.
func (cfg *Config) checkFile() error {
	switch {
	case cfg.settings != nil:
		return cfg.settings.settled(cfg)
	case cfg.ConfigFile != "":
		return errNoFlags
	}
	return nil
}

// end tells an error that only Run has found, in the way of the flag set, which may end the process. s may be nil.
func (s *settings) end(err error) {
	if s != nil && s.fs.ErrorHandling() != flag.ContinueOnError {
		s.tell(err)
	}
}

// errNoFlags is what a Config is worth that names a file which nobody has read.
var errNoFlags = errors.New("field ConfigFile is set, but nobody has read the file: call Config.Flags")
