package daemon

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// These define flags whose defaults are what the fields hold.

func (s *settings) text(p *string, name, usage string) {
	s.fs.StringVar(p, s.named(name, p), *p, usage)
}

func (s *settings) flag(p *bool, name, usage string) {
	s.fs.BoolVar(p, s.named(name, p), *p, usage)
}

func (s *settings) number(p *int, name, usage string) {
	s.fs.IntVar(p, s.named(name, p), *p, usage)
}

// numberOr is number for a setting that has a default other than 0.
func (s *settings) numberOr(p *int, def int, name, usage string) {
	s.number(p, name, fmt.Sprintf("%s; 0: %d", usage, def))
}

// timeOr is time for a setting that has a default other than 0.
func (s *settings) timeOr(p *time.Duration, def time.Duration, name, usage string) {
	s.time(p, name, fmt.Sprintf("%s; 0: %v", usage, def))
}

func (s *settings) time(p *time.Duration, name, usage string) {
	s.fs.DurationVar(p, s.named(name, p), *p, usage)
}

// value is for a Value that is a pointer to its field.
func (s *settings) value(v flag.Value, name, usage string) {
	s.fs.Var(v, s.named(name, v), usage)
}

func (s *settings) list(p *[]string, name, usage string) {
	s.fs.Var(&list{values: p}, s.named(name, p), usage)
}

func (s *settings) named(name string, at any) string {
	s.fields = append(s.fields, field{name, at})
	return name
}

// A list is a flag that can be repeated. The first value that is given replaces the default; an empty one empties it.
type list struct {
	values *[]string
	given  bool
}

func (l *list) String() string {
	if l.values == nil {
		return ""
	}
	return strings.Join(*l.values, " ")
}

func (l *list) Set(v string) error {
	if !l.given {
		*l.values, l.given = nil, true
	}
	if v == "" {
		*l.values = nil
		return nil
	}
	*l.values = append(*l.values, v)
	return nil
}

// An octal is a number that people write in octal.
type octal int

func (o *octal) String() string {
	switch {
	case o == nil || *o == 0:
		return fmt.Sprintf("%03o", defaultUmask)
	case *o < 0:
		return "-1"
	}
	return fmt.Sprintf("%03o", int(*o))
}

func (o *octal) Set(v string) error {
	n, err := strconv.ParseInt(v, 8, 32)
	if err != nil || n == 0 {
		return errors.New("want an octal number, such as 027; for none at all start the daemon under umask 0 and say -1")
	}
	*o = octal(n)
	return nil
}

// An amount is a number of bytes that people write with a K, M or G behind it.
type amount int64

func (a *amount) String() string {
	if a == nil {
		return "0"
	}
	return strconv.FormatInt(int64(*a), 10)
}

func (a *amount) Set(v string) error {
	n, err := parseAmount(v)
	if err == nil && n > math.MaxInt64 {
		n = 0 // no limit
	}
	if err == nil {
		*a = amount(n)
	}
	return err
}
