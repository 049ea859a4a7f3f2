package daemon

import (
	"math"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseAmount(t *testing.T) {
	const bad = math.MaxUint64 - 1 // no amount comes to that
	for s, want := range map[string]uint64{
		"0": 0, "1": 1, "4096": 4096, "1k": 1 << 10, "64K": 64 << 10, "512M": 512 << 20, "2G": 2 << 30, "2g": 2 << 30, "1T": 1 << 40,
		"unlimited": unix.RLIM_INFINITY, "9223372036854775807": math.MaxInt64, "8388607T": 8388607 << 40,
		"": bad, "K": bad, "-1": bad, "+1": bad, "1.5G": bad, "1GB": bad, "1P": bad, " 1": bad, "0x10": bad, "Unlimited": bad, "infinity": bad,
		"9223372036854775808": bad, "8388608T": bad, "18446744073709551616": bad,
	} {
		got, err := parseAmount(s)
		switch {
		case want == bad && err == nil:
			t.Errorf("%q: got %d, want an error", s, got)
		case want == bad && !strings.Contains(err.Error(), "is no amount"):
			t.Errorf("%q: %v", s, err)
		case want != bad && (err != nil || got != want):
			t.Errorf("%q: got %d, %v; want %d", s, got, err, want)
		}
	}
}

func TestParseRlimits(t *testing.T) {
	find := func(all []rlimit, name string) (found []rlimit) {
		for _, l := range all {
			if l.name == name {
				found = append(found, l)
			}
		}
		return found
	}
	for _, c := range []struct {
		lines     string
		name      string
		cur, hard uint64
	}{
		{"", "core", 0, 0},
		{"nofile=64", "nofile", 64, 64},
		{"nofile=64", "core", 0, 0},
		{"nofile=32:64", "nofile", 32, 64},
		{"nofile=64 nofile=32", "nofile", 32, 32},
		{"cpu=60", "cpu", 60, 60},
		{"stack=8M", "stack", 8 << 20, 8 << 20},
	} {
		all, err := parseRlimits(strings.Fields(c.lines))
		if got := find(all, c.name); err != nil || len(got) != 1 || got[0].Cur != c.cur || got[0].Max != c.hard {
			t.Errorf("%q: got %+v, %v; want %s=%d:%d", c.lines, got, err, c.name, c.cur, c.hard)
		}
	}
	if os.Geteuid() == 0 {
		if all, err := parseRlimits([]string{"core=unlimited"}); err != nil || len(all) != 1 || all[0].Max != unix.RLIM_INFINITY {
			t.Errorf("core=unlimited: %+v, %v", all, err)
		}
	}
	for line, want := range map[string]string{
		"":              "want NAME=VALUE",
		"nofile":        "is no amount",
		"nofile=":       "is no amount",
		"nofile=:64":    "is no amount",
		"nofile=64:":    "is no amount",
		"nofile=1:2:3":  "is no amount",
		"nofile=64:32":  "the soft limit is above the hard one",
		"nofile=many":   `"many" is no amount`,
		"files=64":      "with a name out of as, core, cpu",
		"NOFILE=64":     "with a name out of as, core, cpu",
		"nofile = 64":   "with a name out of as, core, cpu",
		"as=unlimited:": "is no amount",
	} {
		if all, err := parseRlimits([]string{line}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "field Rlimits has ") {
			t.Errorf("%q: got %+v, %v; want an error that says %q", line, all, err, want)
		}
	}
}

// A child that may open fewer files than it is to have connections is no surprise of the busiest hour.
func TestFitConnections(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	const hard = "the hard limit on open files (ulimit -Hn), "
	for _, c := range []struct {
		name, limits string
		cfg          Config
		want         string
	}{
		{"one job", "nofile=16", Config{Concurrency: 1, Listen: []string{":1"}}, ""},
		{"no listener", "nofile=16", Config{Concurrency: 1000}, ""},
		{"just enough", "nofile=133", Config{Concurrency: 100, Listen: []string{":1"}}, ""},
		{"one too few", "nofile=132", Config{Concurrency: 100, Listen: []string{":1"}},
			"field Concurrency is 100, but the limit on open files in Rlimits (nofile), 132, is enough for 99 connections in each child: " +
				"raise it to 133 (as root with nofile=133 in Rlimits) or lower Concurrency"},
		{"two listeners", "nofile=133", Config{Concurrency: 100, Listen: []string{":1", ":2"}}, "is enough for 99 connections in each child: raise it to 134 "},
		{"none at all", "nofile=16", Config{Concurrency: 2, Listen: []string{":1"}}, "Rlimits (nofile), 16, is enough for 0 connections"},
		{"soft", "nofile=100:1000", Config{Concurrency: 100, Listen: []string{":1"}}, "Rlimits (nofile), 100, is enough for 67 connections"},
		{"inherited", "", Config{Concurrency: int(min(files.Max, 1<<40)), Listen: []string{":1"}}, hard},
	} {
		limits, err := parseRlimits(strings.Fields(c.limits))
		if err != nil {
			t.Fatal(err)
		}
		switch err := c.cfg.fitConnections(limits); {
		case c.want == hard && files.Max == unix.RLIM_INFINITY:
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v; want an error that says %q", c.name, err, c.want)
		}
	}
}
