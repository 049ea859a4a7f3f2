package daemon

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/brooddaemon/brood/internal/inherit"
)

// configured is a daemon's main up to Run: cfg with the flags of a file, of the environment and of a command line.
func configured(t *testing.T, cfg *Config, text string, args ...string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jobd.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return withFile(t, cfg, append([]string{"-config", path}, args...)...)
}

// withFile is configured with a command line that may name a file.
func withFile(t *testing.T, cfg *Config, args ...string) error {
	t.Helper()
	old := os.Args
	t.Cleanup(func() { os.Args = old })
	os.Args = append([]string{"jobd"}, args...)
	fs := flag.NewFlagSet("jobd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	cfg.Flags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return cfg.begin()
}

// The command line goes before the environment, that before the file, and that before what the program sets: for each pair.
func TestSettingsPrecedence(t *testing.T) {
	const code, file, env, arg = 1, 2, 4, 8
	for given := range 16 {
		t.Run(fmt.Sprint(given), func(t *testing.T) {
			want, origin := time.Duration(0), "default"
			cfg, text, args := Config{}, "# nothing\n", []string(nil)
			if given&code != 0 {
				cfg.KillGrace = 3 * time.Second
				want, origin = 3*time.Second, "code"
			}
			if given&file != 0 {
				text += "kill_grace 4s\n"
				want, origin = 4*time.Second, "jobd.conf:2"
			}
			if given&env != 0 {
				t.Setenv("BROOD_KILL_GRACE", "5s")
				want, origin = 5*time.Second, "environment BROOD_KILL_GRACE"
			}
			if given&arg != 0 {
				args = []string{"-kill-grace=6s"}
				want, origin = 6*time.Second, "command line"
			}
			if err := configured(t, &cfg, text, args...); err != nil || cfg.KillGrace != want {
				t.Fatalf("%v, %v, want %v", cfg.KillGrace, err, want)
			}
			i := slices.IndexFunc(cfg.settings.fields, func(x field) bool { return x.name == "kill-grace" })
			if got := cfg.settings.origin(i); !strings.HasSuffix(got, origin) {
				t.Errorf("it comes from %s, want %s", got, origin)
			}
		})
	}
}

// A list is that of the first source that has it; within the file a repeated key adds.
func TestSettingsLists(t *testing.T) {
	for _, c := range []struct {
		text, env string
		args      []string
		want      []string
	}{
		{"", "", nil, []string{":1"}},
		{"listen :2\nlisten :3\n", "", nil, []string{":2", ":3"}},
		{"listen :2\nlisten :3\n", ":4 :5", nil, []string{":4", ":5"}},
		{"listen :2\n", ":4", []string{"-listen", ":6", "-listen", ":7"}, []string{":6", ":7"}},
		{"listen :2\n", "", []string{"-listen", ":6"}, []string{":6"}},
		{"listen \"\"\n", "", nil, nil},
		{"listen :2\n", "", []string{"-listen", ""}, nil},
	} {
		cfg := Config{Listen: []string{":1"}}
		t.Setenv("BROOD_LISTEN", c.env)
		if err := configured(t, &cfg, c.text, c.args...); err != nil || !slices.Equal(cfg.Listen, c.want) {
			t.Errorf("file %q, environment %q, command line %q: %q, %v, want %q", c.text, c.env, c.args, cfg.Listen, err, c.want)
		}
	}
}

// anyValue is a value for a flag, other than its default, as text.
func anyValue(x field, f *flag.Flag) string {
	switch v := reflect.ValueOf(x.at).Elem(); v.Kind() {
	case reflect.Bool:
		return "true"
	case reflect.Int:
		return "7"
	case reflect.Int64:
		if _, isTime := v.Interface().(time.Duration); isTime {
			return "7m0s"
		}
		return "7340032"
	}
	return f.Name
}

// valid are values for those settings of which not every text is one, so that they can stand together.
var valid = map[string]string{
	"listen": "127.0.0.1:7", "user": "", "group": "", "umask": "007", "environ": "SEVEN", "rlimits": "nofile=70", "name": "seven",
	"run-dir": "/run/seven", "pid-file": "/run/seven.pid", "dir": "/seven", "error-log": "/seven.log", "access-log": "/seven.access",
	"access-format": "json", "log-format": "json", "log-level": "warn", "pool": "static", "auto-reload-when": "always", "half-close": "ignore",
	"serialize": "flock", "lock-file": "/seven.lock", "allow": "10.0.0.0/8", "deny": "10.0.0.7", "trusted-owner": "0", "no-fork": "false", "require-root": "false", "daemonize": "true",
}

// Each setting can be set in a file, by its key in snake case, shows its value and where that comes from, and what is shown is a file
// that says the same. If this fails for a new flag whose values are of a certain form: put one into valid.
func TestShowConfigRoundTrip(t *testing.T) {
	var text strings.Builder
	var none Config
	s := settingsOf(&none)
	lines := map[string]string{}
	n := 0
	for _, x := range s.fields {
		value, special := valid[x.name]
		if !special {
			value = anyValue(x, s.fs.Lookup(x.name))
		}
		if x.name == configFlag {
			continue
		}
		n++
		fmt.Fprintf(&text, "%s %q\n", key(x.name), value)
		lines[x.name] = fmt.Sprintf("jobd.conf:%d", n)
	}
	busy := func() Config {
		cfg := enough()
		cfg.Dequeue.MainLoop = cfg.MainLoop
		return cfg
	}
	cfg := busy()
	if err := configured(t, &cfg, text.String()); err != nil {
		t.Fatal(err)
	}
	shown := func(cfg Config) (string, Config) {
		q, _, err := settleConfig(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := cfg.settings.print(&out, &q.cfg); err != nil {
			t.Fatal(err)
		}
		return out.String(), q.cfg
	}
	first, complete := shown(cfg)
	for name, origin := range lines {
		want, special := valid[name]
		if !special {
			i := slices.IndexFunc(s.fields, func(x field) bool { return x.name == name })
			want = anyValue(s.fields[i], s.fs.Lookup(name))
		}
		found := false
		for line := range strings.Lines(first) {
			if words := strings.Fields(line); words[0] == key(name) {
				found = strings.Trim(words[1], `"`) == want && strings.HasSuffix(words[len(words)-1], origin)
			}
		}
		if !found {
			t.Errorf("%s is not shown as %q of %s:\n%s", name, want, origin, first)
		}
	}

	again := busy()
	if err := configured(t, &again, first); err != nil {
		t.Fatal(err)
	}
	second, completeAgain := shown(again)
	if d := cmp.Diff(complete, completeAgain, plain, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".ConfigFile" }, cmp.Ignore())); d != "" {
		t.Errorf("what is shown says something else:\n%s", d)
	}
	bare := func(s string) (values []string) {
		for line := range strings.Lines(s) {
			line, _, _ = strings.Cut(line, " # ")
			values = append(values, strings.Join(strings.Fields(line), " "))
		}
		return values[1:] // without the file's own name
	}
	if d := cmp.Diff(bare(first), bare(second)); d != "" {
		t.Errorf("shown once more it is another one:\n%s", d)
	}
}

// What a daemon that says nothing shows can be its file, too.
func TestShowConfigDefaults(t *testing.T) {
	cfg := enough()
	if err := withFile(t, &cfg); err != nil {
		t.Fatal(err)
	}
	q, _, err := settleConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cfg.settings.print(&out, &q.cfg)
	if !strings.Contains(out.String(), "# default\n") || !strings.Contains(out.String(), "# code\n") || strings.Contains(out.String(), "environment") {
		t.Errorf("shown as\n%s", &out)
	}
	again := enough()
	if err := configured(t, &again, out.String()); err != nil {
		t.Fatal(err)
	}
	r, _, err := settleConfig(again)
	if err != nil {
		t.Fatal(err)
	}
	if n := refused(q.cfg, r.cfg) + changes(q.cfg, r.cfg); n != "needs a restart: config" {
		t.Errorf("it differs: %s", n)
	}
}

// What is wrong names the file, the line, the key, and what was meant.
func TestSettingsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"\nidle_timeot 5s":                     `jobd.conf:2: key "idle_timeot": unknown; do you mean "idle_timeout"?`,
		"idel-timeout 5s":                      `:1: key "idel-timeout": unknown; do you mean "idle_timeout"?`,
		"PREFORK 8":                            `:1: key "PREFORK": unknown; do you mean "prefork"?`,
		"colour red":                           `:1: key "colour": unknown`,
		"prefork many":                         `:1: key "prefork": the value is "many": want a whole number`,
		"idle_timeout 60":                      `the value is "60": want a time with its unit, such as 90s or 5m`,
		"daemonize maybe":                      `the value is "maybe": want true or false`,
		"umask 99":                             `key "umask": the value is "99": want an octal number`,
		"max_memory lots":                      `key "max_memory": the value is "lots":`,
		"prefork 1\nprefork 2":                 `:2: key "prefork": stands in line 1 already, and is no list`,
		"prefork 1\npre-fork 2":                `:2: key "pre-fork": unknown; do you mean "prefork"?`,
		"min_spare 1\nmin-spare 1":             `:2: key "min-spare": stands in line 1 already`,
		"config /other":                        `:1: key "config": a file cannot name another one`,
		"show_config true":                     `:1: key "show_config": is for the command line alone`,
		"check-config true":                    `:1: key "check-config": is for the command line alone`,
		"prefork=8":                            `:1: key "prefork": between key and value`,
		"later 1":                              `:1: key "later": the program defines the flag -later only after Config.Flags has read the file`,
		"own x\nown 3":                         `:1: key "own": the value is "x": want a whole number`,
		"listen :1\n\npool dynamc":             `:3: key "pool": field Pool is "dynamc": want "dynamic", "static" or "ondemand"`,
		"prefork 4\nlog_level loud # so":       `:2: key "log_level": field LogLevel: "loud" is no level`,
		"prefork 8\nmax_children 4":            `:1: key "prefork": field MaxChildren is 4: want 8 (Prefork)`,
		"rlimits nofile=many":                  `:1: key "rlimits": `,
		"name ../evil":                         `:1: key "name": `,
		"trusted_owner nobody-of-that-name":    `:1: key "trusted_owner": field TrustedOwner is`,
		"listen :1\nlisten nonsense":           `:2: key "listen": listen "nonsense"`,
		"min_spare 9\nmax_spare 2\nprefork 10": `:1: key "min_spare": field MaxSpare is 2, which is less than MinSpare`,
	} {
		cfg := enough()
		path := filepath.Join(t.TempDir(), "jobd.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		old := os.Args
		os.Args = []string{"jobd", "-config", path}
		fs := flag.NewFlagSet("jobd", flag.ContinueOnError)
		var told bytes.Buffer
		fs.SetOutput(&told)
		fs.Int("own", 1, "")
		cfg.Flags(fs)
		fs.Int("later", 1, "")
		fs.Parse(os.Args[1:])
		os.Args = old
		err := cfg.begin()
		if err == nil {
			_, _, err = settleConfig(cfg)
			err = cfg.settings.blamed(err)
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+":") || strings.Count(err.Error(), path) != 1 {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
		if cfg.settings.bad != nil && !strings.Contains(told.String(), want) {
			t.Errorf("%q: the flag set was told %q", text, &told)
		}
		if cfg.Prefork != 0 && cfg.settings.bad != nil && text == "prefork many" {
			t.Errorf("prefork has become %d", cfg.Prefork)
		}
	}
}

// A file that cannot be read is an error, and so is one that only fs.Parse gets to know, or nobody at all.
func TestSettingsUnreadable(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{"none": "no such file", "": "it is no regular file"} {
		cfg := enough()
		if err := withFile(t, &cfg, "-config", filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	cfg := enough()
	if err := withFile(t, &cfg, "command", "-config", "x"); err != nil {
		t.Errorf("behind the flags: %v", err)
	}
	cfg.ConfigFile = "/etc/jobd.conf"
	if err := cfg.complete(); err == nil || !strings.Contains(err.Error(), `is "/etc/jobd.conf", and was "" when`) {
		t.Errorf("set too late: %v", err)
	}
	cfg = enough()
	cfg.ConfigFile = "/etc/jobd.conf"
	if err := Run(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "call Config.Flags") {
		t.Errorf("without Flags: %v", err)
	}
}

// The file's name is found where package flag would find it.
func TestConfigOnCommandLine(t *testing.T) {
	cfg := enough()
	fs := flagsOf(&cfg)
	fs.Bool("verbose", false, "")
	for line, want := range map[string]string{
		"-config a": "a", "--config a": "a", "-config=a": "a", "--config=a": "a", "-config a -config b": "b", "-prefork 8 -config a": "a",
		"-prefork=8 -config a": "a", "-daemonize -config a": "a", "-verbose -config a": "a", "-unknown x -config a": "a", "-unknown -config a": "a",
		"-config=": "", "": "-", "x -config a": "-", "-- -config a": "-", "- -config a": "-", "-name -config a": "-", "-configure a": "-", "-config": "-",
		"-name=x -config a y -config b": "a",
	} {
		got, given := cfg.settings.onCommandLine(append([]string{"jobd"}, strings.Fields(line)...))
		if given != (want != "-") || given && got != want {
			t.Errorf("%q: %q, %v, want %q", line, got, given, want)
		}
	}
}

// From the default, the environment and the command line, in this order.
func TestConfigNamed(t *testing.T) {
	dir := t.TempDir()
	file := func(n int) string {
		path := filepath.Join(dir, fmt.Sprint(n))
		if err := os.WriteFile(path, fmt.Appendf(nil, "prefork %d\n", n), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		code, env, arg string
		want           int
	}{
		{"", "", "", 0}, {file(1), "", "", 1}, {file(1), file(2), "", 2}, {file(1), file(2), file(3), 3}, {"", file(2), file(3), 3}, {file(1), "", file(3), 3},
	} {
		t.Setenv("BROOD_CONFIG", c.env)
		cfg := Config{ConfigFile: c.code}
		var args []string
		if c.arg != "" {
			args = []string{"-config", c.arg}
		}
		if err := withFile(t, &cfg, args...); err != nil || cfg.Prefork != c.want {
			t.Errorf("%+v: %d, %v", c, cfg.Prefork, err)
		}
	}
}

// What the program itself has set after Flags stays when the file is read again, and so does the command line.
func TestSettingsReread(t *testing.T) {
	t.Setenv("BROOD_MIN_SPARE", "2")
	dir := t.TempDir()
	t.Chdir(dir)
	path := filepath.Join(dir, "jobd.conf")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("prefork 4\nmax_children 20\nmin_spare 3\nsoak 1s\nerror_log log\nlisten :1\n")
	cfg := enough()
	cfg.KillGrace = 3 * time.Second
	old := os.Args
	t.Cleanup(func() { os.Args = old })
	os.Args = []string{"jobd", "-config", "jobd.conf", "-soak", "2s"}
	fs := flag.NewFlagSet("jobd", flag.ContinueOnError)
	own := fs.Int("own", 1, "")
	cfg.Flags(fs)
	if err := fs.Parse(os.Args[1:]); err != nil {
		t.Fatal(err)
	}
	cfg.MaxChildren = 30 // the program's last word
	if err := cfg.begin(); err != nil {
		t.Fatal(err)
	}
	p := &Parent{cfg: cfg}
	if err := p.cfg.complete(); err != nil {
		t.Fatal(err)
	}
	p.agree(nil)
	t.Chdir("/")
	write("prefork 5\nmax_children 21\nmin_spare 9\nsoak 5s\nkill_grace 7s\nown 8\nerror_log log\nname other\n")
	now, err := p.renew()
	if err != nil {
		t.Fatal(err)
	}
	if c := now.cfg; c.Prefork != 5 || c.MaxChildren != 30 || c.MinSpare != 2 || c.Soak != 2*time.Second || c.KillGrace != 7*time.Second ||
		c.ErrorLog != filepath.Join(dir, "log") || len(c.Listen) != 0 || c.MainLoop == nil || *own != 1 {
		t.Errorf("now it is %+v", c)
	}
	if want := "needs an upgrade: listen; needs a restart: name, run_dir, pid_file"; now.refused != want {
		t.Errorf("refused is %q, want %q", now.refused, want)
	}
	if want := "prefork 4 -> 5, kill_grace 3s -> 7s"; changes(p.cfg, now.cfg) != want {
		t.Errorf("changed is %q, want %q", changes(p.cfg, now.cfg), want)
	}
	write("\nprefork 50\n")
	if _, err := p.renew(); err == nil || !strings.Contains(err.Error(), `jobd.conf:2: key "prefork": field MaxChildren is 30: want 50`) {
		t.Error(err)
	}
	write("prefrk 5\n")
	if _, err := p.renew(); err == nil || !strings.Contains(err.Error(), `jobd.conf:1: key "prefrk": unknown; do you mean "prefork"?`) {
		t.Error(err)
	}
	os.Remove(path)
	if _, err := p.renew(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

// Each setting has an effect, and there is none for what is no setting.
func TestEffects(t *testing.T) {
	known := map[string]bool{}
	for _, x := range fieldsOf(new(Config)) {
		known[x.name] = true
		if _, ok := effects[x.name]; !ok {
			t.Errorf("-%s is not in effects.go: say there what makes a change of it hold. With a reload only if the parent reads it from now() "+
				"and not from cfg, or the pool has it in its limits", x.name)
		}
	}
	for name := range effects {
		if !known[name] {
			t.Errorf("effects.go knows %s, which is no flag", name)
		}
	}
}

// As root a file that others can change is not read again.
func TestSettingsTrust(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("is about root")
	}
	dir, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "jobd.conf")
	cfg := enough()
	os.WriteFile(path, []byte("trusted_owner 4711\n"), 0o600)
	if err := withFile(t, &cfg, "-config", path); err != nil {
		t.Fatal(err)
	}
	if err := cfg.settings.trusted(); err != nil {
		t.Errorf("root's own: %v", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := cfg.settings.trusted(); err == nil || !strings.Contains(err.Error(), "may be written by others") {
		t.Errorf("everybody's: %v", err)
	}
	// Whom the file names is no reason to trust it; whom the command line names is.
	os.Chmod(path, 0o600)
	if err := os.Chown(path, 4711, 0); err != nil {
		t.Fatal(err)
	}
	if err := cfg.settings.trusted(); err == nil || !strings.Contains(err.Error(), "belongs to user 4711") {
		t.Errorf("another one's: %v", err)
	}
	cfg = enough()
	if err := withFile(t, &cfg, "-config", path, "-trusted-owner", "4711"); err != nil {
		t.Fatal(err)
	}
	if err := cfg.settings.trusted(); err != nil {
		t.Errorf("a trusted owner's: %v", err)
	}
}

// The file that is shipped as an example is one.
func TestContribConfig(t *testing.T) {
	cfg := enough()
	if err := withFile(t, &cfg, "-config", "../contrib/jobs.conf"); err != nil {
		t.Fatal(err)
	}
	if err := cfg.complete(); err != nil || cfg.User != "jobs" || cfg.MaxChildren != 50 {
		t.Errorf("%v, %+v", err, cfg)
	}
}

// Who is started by a parent has the text that the parent has, whatever the file says by now: a child that of its generation, a
// successor that with which it has passed its trial.
func TestSettingsOfTheParent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobd.conf")
	given := &configText{path, "prefork 7\n"}
	sealed, err := papers{Config: given}.seal()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sealed)
	none, err := papers{}.seal()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(none)
	state, err := (&handover{Agreement: inherit.Spoken, Config: given}).write()
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	other, err := (&handover{Config: &configText{"/other", "prefork 9\n"}}).write()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, c := range []struct {
		name  string
		claim inherit.Claim
		want  int
	}{
		{"launcher", inherit.Claim{}, 5},
		{"child", inherit.Claim{Role: inherit.Trial, Papers: sealed}, 7},
		{"child of a parent without a file", inherit.Claim{Role: inherit.Trial, Papers: none}, 0},
		{"trial for a successor", inherit.Claim{Role: inherit.Trial, State: int(state.Fd())}, 5},
		{"successor", inherit.Claim{Role: inherit.Successor, State: int(state.Fd())}, 7},
		{"successor that has another file", inherit.Claim{Role: inherit.Successor, State: int(other.Fd())}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, value, _ := strings.Cut(c.claim.Environ(), "=")
			t.Setenv("BROOD", value)
			if err := os.WriteFile(path, []byte("prefork 5\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := Config{ConfigFile: path}
			if err := withFile(t, &cfg); err != nil || cfg.Prefork != c.want {
				t.Errorf("%d children, %v, want %d", cfg.Prefork, err, c.want)
			}
		})
	}
	if h, err := readHandover(int(state.Fd())); err != nil || h.Config == nil {
		t.Errorf("what is handed over is read no more: %v", err)
	}
}
