package doctor

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// Settings are what a daemon was started with, as far as it matters here: by its flags, the environment, or the defaults of this
// toolkit. What its program says itself is not seen.
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

// SettingsOf reads those of a process. What cannot be read is as by default.
func SettingsOf(s System, pid int) Settings {
	args, _ := os.ReadFile(s.proc(pid, "cmdline"))
	env, _ := os.ReadFile(s.proc(pid, "environ"))
	split := func(b []byte) []string { return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00") }
	return settings(split(args), split(env))
}

// settings reads a command line and an environment. The command line goes before the environment.
func settings(args, env []string) Settings {
	set := Defaults()
	for _, kv := range env {
		if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "BROOD_") && value != "" {
			set.take(strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "BROOD_"), "_", "-")), value)
		}
	}
	for i := 1; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			continue
		}
		name, value, given := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case given:
		case name == "daemonize":
			value = "true"
		case i+1 < len(args):
			value = args[i+1]
		}
		set.take(name, value)
	}
	return set
}

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
