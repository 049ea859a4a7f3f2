package daemon

import (
	"bytes"
	"flag"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// kebab writes a field's name as a flag's.
func kebab(name string) string {
	name = regexp.MustCompile(`([A-Z]+)([A-Z][a-z])`).ReplaceAllString(name, "$1-$2")
	name = regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(name, "$1-$2")
	return strings.ToLower(name)
}

// textual reports whether a value can be written as text.
func textual(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return true
	case reflect.Slice:
		return v.Type().Elem().Kind() == reflect.String
	}
	return false
}

func flagsOf(cfg *Config) *flag.FlagSet {
	fs := flag.NewFlagSet("jobd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	cfg.Flags(fs)
	return fs
}

// Every field that is text has a flag by its name, which sets it and shows its default; there are no others but those
// of LogRotate and the two that ask about the configuration.
func TestFlagsCoverConfig(t *testing.T) {
	var cfg Config
	fs := flagsOf(&cfg)
	v := reflect.ValueOf(&cfg).Elem()
	seen := map[string]bool{checkFlag: true, showFlag: true}
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		if !textual(f) {
			continue
		}
		name := kebab(field.Name)
		if field.Name == "ConfigFile" {
			name = configFlag
		}
		seen[name] = true
		given := map[reflect.Kind]string{reflect.Bool: "true", reflect.Int: "42", reflect.Int64: "42s"}[f.Kind()]
		switch {
		case given == "":
			given = "given"
		case f.Type() == reflect.TypeFor[int64](): // bytes
			given = "42M"
		}
		switch fl := fs.Lookup(name); {
		case fl == nil:
			t.Errorf("%s has no flag -%s", field.Name, name)
		case fl.Usage == "":
			t.Errorf("-%s says nothing of itself", name)
		case fs.Parse([]string{"-" + name + "=" + given}) != nil || f.IsZero():
			t.Errorf("-%s=%s sets %s to %v", name, given, field.Name, f)
		}
	}
	// Those of LogRotate are named by what they say; those of Dequeue have the field's name before them.
	rotate := 0
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Dequeue]()) {
		if name := "dequeue-" + kebab(field.Name); textual(reflect.Zero(field.Type)) {
			if seen[name] = true; fs.Lookup(name) == nil {
				t.Errorf("Dequeue.%s has no flag -%s", field.Name, name)
			}
		}
	}
	fs.VisitAll(func(fl *flag.Flag) {
		switch {
		case seen[fl.Name]:
		case strings.HasPrefix(fl.Name, "log-"):
			rotate++
		default:
			t.Errorf("-%s belongs to no field", fl.Name)
		}
	})
	if want := reflect.TypeFor[LogRotate]().NumField(); rotate != want {
		t.Errorf("LogRotate has %d fields and %d flags", want, rotate)
	}
}

// The command line goes before the environment, that before what the program sets.
func TestFlagsPrecedence(t *testing.T) {
	for _, c := range []struct {
		env, arg string
		want     time.Duration
	}{
		{"", "", 3 * time.Second},
		{"4s", "", 4 * time.Second},
		{"", "5s", 5 * time.Second},
		{"4s", "5s", 5 * time.Second},
	} {
		t.Run(c.env+" "+c.arg, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("BROOD_KILL_GRACE", c.env)
			}
			cfg := Config{KillGrace: 3 * time.Second}
			fs := flagsOf(&cfg)
			var args []string
			if c.arg != "" {
				args = []string{"-kill-grace", c.arg}
			}
			if err := fs.Parse(args); err != nil || cfg.KillGrace != c.want {
				t.Errorf("got %v, %v, want %v", cfg.KillGrace, err, c.want)
			}
		})
	}
}

func TestFlagsEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"NAME": "n", "LISTEN": " :1  /run/s ", "REQUIRE_ROOT": "true", "DAEMONIZE": "1", "DIR": "d", "RUN_DIR": "r",
		"PID_FILE": "p", "ERROR_LOG": "e", "ACCESS_LOG": "a", "LOG_MAX_SIZE": "7", "LOG_BACKUPS": "8", "LOG_MAX_AGE": "9", "ACCESS_FORMAT": "json", "LOG_FORMAT": "json",
		"PREFORK": "2", "CONCURRENCY": "5", "START_TIMEOUT": "1s", "DRAIN_TIMEOUT": "2m", "STOP_TIMEOUT": "3s",
		"KILL_GRACE": "-1s", "LINGER_TIMEOUT": "5ms",
	} {
		t.Setenv("BROOD_"+name, value)
	}
	cfg := Config{Name: "old", Listen: []string{":9"}, Prefork: 9}
	fs := flagsOf(&cfg)
	want := Config{
		Name: "n", Listen: []string{":1", "/run/s"}, RequireRoot: true, Daemonize: true, Dir: "d", RunDir: "r", PIDFile: "p",
		ErrorLog: "e", AccessLog: "a", AccessFormat: "json", LogFormat: "json", LogRotate: LogRotate{MaxSizeMB: 7, Backups: 8, MaxAgeDays: 9}, Prefork: 2, Concurrency: 5,
		StartTimeout: time.Second, DrainTimeout: 2 * time.Minute, StopTimeout: 3 * time.Second, KillGrace: -time.Second,
		LingerTimeout: 5 * time.Millisecond,
	}
	if err := fs.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, cfg, plain); diff != "" {
		t.Errorf("want (-) against got (+):\n%s", diff)
	}
}

// The first address on the command line replaces the defaults, the others are added.
func TestFlagsList(t *testing.T) {
	defaults := []string{":1", ":2"}
	cfg := Config{Listen: defaults}
	fs := flagsOf(&cfg)
	if got := fs.Lookup("listen").Value.String(); got != ":1 :2" {
		t.Errorf("the default shows as %q", got)
	}
	if err := fs.Parse([]string{"-listen", ":3", "-listen", "/run/s", "-listen=:4"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{":3", "/run/s", ":4"}; !slices.Equal(cfg.Listen, want) {
		t.Errorf("got %q, want %q", cfg.Listen, want)
	}
	if !slices.Equal(defaults, []string{":1", ":2"}) {
		t.Errorf("the program's own list has become %q", defaults)
	}

	t.Setenv("BROOD_LISTEN", ":5 :6")
	cfg = Config{Listen: defaults}
	if fs = flagsOf(&cfg); !slices.Equal(cfg.Listen, []string{":5", ":6"}) {
		t.Errorf("from the environment: %q", cfg.Listen)
	}
	if fs.Parse([]string{"-listen", ":7"}); !slices.Equal(cfg.Listen, []string{":7"}) {
		t.Errorf("the command line adds to the environment: %q", cfg.Listen)
	}
}

// What the environment says and cannot be read is told, in the way of the flag set.
func TestFlagsBadEnvironment(t *testing.T) {
	t.Setenv("BROOD_PREFORK", "many")
	t.Setenv("BROOD_DAEMONIZE", "maybe")
	t.Setenv("BROOD_MAX_CHILDREN", "") // is not set
	var out bytes.Buffer
	cfg := Config{Prefork: 3}
	fs := flag.NewFlagSet("jobd", flag.ContinueOnError)
	fs.SetOutput(&out)
	cfg.Flags(fs)
	for _, want := range []string{`BROOD_PREFORK: the value is "many": want a whole number`, `BROOD_DAEMONIZE: the value is "maybe": want true or false`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it says %q, nothing of %s", out.String(), want)
		}
	}
	if strings.Contains(out.String(), "MAX_CHILDREN") {
		t.Errorf("it says %q of a variable that is empty", out.String())
	}
	if cfg.Prefork != 3 {
		t.Errorf("Prefork has become %d", cfg.Prefork)
	}

	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(error).Error(), "BROOD_") {
			t.Errorf("it panics with %v", r)
		}
	}()
	cfg.Flags(flag.NewFlagSet("jobd", flag.PanicOnError))
	t.Error("it does not panic")
}

// Two daemons' flags, or one's twice, do not get in each other's way.
func TestFlagsTwice(t *testing.T) {
	a, b := Config{Prefork: 2}, Config{Prefork: 4}
	fa, fb := flagsOf(&a), flagsOf(&b)
	if err := fa.Parse([]string{"-prefork", "5", "-listen", ":1"}); err != nil || a.Prefork != 5 {
		t.Errorf("%d, %v", a.Prefork, err)
	}
	if err := fb.Parse([]string{"-listen", ":2"}); err != nil || b.Prefork != 4 || !slices.Equal(b.Listen, []string{":2"}) {
		t.Errorf("%d, %q, %v", b.Prefork, b.Listen, err)
	}
	if !slices.Equal(a.Listen, []string{":1"}) {
		t.Errorf("the first one's list is %q", a.Listen)
	}
	again := flagsOf(&a)
	if got := again.Lookup("prefork").DefValue; got != "5" {
		t.Errorf("the default is %s then", got)
	}
	if err := again.Parse([]string{"-prefork", "6"}); err != nil || a.Prefork != 6 {
		t.Errorf("%d, %v", a.Prefork, err)
	}
}

// Help is for people.
func TestFlagsHelp(t *testing.T) {
	var out bytes.Buffer
	cfg := Config{Listen: []string{":8080"}, KillGrace: 3 * time.Second}
	fs := flag.NewFlagSet("jobd", flag.ContinueOnError)
	fs.SetOutput(&out)
	cfg.Flags(fs)
	fs.PrintDefaults()
	for _, want := range []string{"-listen address", ":8080", "-kill-grace time", "(default 3s)", "-run-dir directory"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help does not say %q:\n%s", want, out.String())
		}
	}
}
