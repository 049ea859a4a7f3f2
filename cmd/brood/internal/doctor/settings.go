package doctor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/brooddaemon/brood/internal/conffile"
)

// Settings are what a daemon was started with, as far as it matters here: by its flags, the environment, its configuration file, or
// the defaults of this toolkit. What its program says itself is not seen.
type Settings struct {
	MaxChildren   int
	Concurrency   int
	StopTimeout   time.Duration
	ClientTimeout time.Duration
	Daemonize     bool
}

// Defaults are the settings of a daemon that says nothing.
func Defaults() Settings {
	return Settings{MaxChildren: 150, Concurrency: 1, StopTimeout: 30 * time.Second, ClientTimeout: 75 * time.Second}
}

// SettingsOf reads those of a process. What cannot be read is as by default; a configuration file is read as it is now.
func SettingsOf(s System, pid int) Settings {
	args, _ := os.ReadFile(s.proc(pid, "cmdline"))
	env, _ := os.ReadFile(s.proc(pid, "environ"))
	split := func(b []byte) []string { return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00") }
	return settings(split(args), split(env), func(path string) []byte {
		if !filepath.IsAbs(path) {
			dir, _ := os.Readlink(s.proc(pid, "cwd")) // where it was started, unless it was told to go elsewhere
			path = filepath.Join(dir, path)
		}
		text, _ := os.ReadFile(s.path(path))
		return text
	})
}

// settings reads a command line, an environment, and the configuration file that one of them names. The command line goes before the
// environment, that before the file.
func settings(args, env []string, file func(path string) []byte) Settings {
	type given struct{ name, value string }
	var all []given
	for _, kv := range env {
		if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "BROOD_") && value != "" {
			all = append(all, given{flagName(strings.ToLower(strings.TrimPrefix(name, "BROOD_"))), value})
		}
	}
	for i := 1; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			continue
		}
		name, value, assigned := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case assigned:
		case name == "daemonize":
			value = "true"
		case i+1 < len(args):
			value = args[i+1]
		}
		all = append(all, given{name, value})
	}
	set, path := Defaults(), ""
	for _, g := range all {
		if g.name == "config" {
			path = g.value
		}
	}
	if path != "" {
		entries, _ := conffile.Parse(path, file(path))
		for _, e := range entries {
			set.take(flagName(e.Key), e.Value)
		}
	}
	for _, g := range all {
		set.take(g.name, g.value)
	}
	return set
}

// flagName is the flag of a key in snake case.
func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

// take sets one of them, if it is one and the value means something.
func (set *Settings) take(name, value string) {
	number := func(to *int) {
		if n, err := strconv.Atoi(value); err == nil && n > 0 {
			*to = n
		}
	}
	span := func(to *time.Duration) {
		if d, err := time.ParseDuration(value); err == nil && d != 0 {
			*to = d
		}
	}
	switch name {
	case "max-children":
		number(&set.MaxChildren)
	case "concurrency":
		number(&set.Concurrency)
	case "stop-timeout":
		span(&set.StopTimeout)
	case "client-timeout":
		span(&set.ClientTimeout)
	case "daemonize":
		if b, err := strconv.ParseBool(value); err == nil {
			set.Daemonize = b
		}
	}
}
