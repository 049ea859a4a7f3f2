package reload

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSetIsZero(t *testing.T) {
	t.Parallel()
	for _, s := range []Set{{}, {Settle: time.Second, Ignore: []string{"x"}, IgnorePaths: []string{"/x"}}} {
		if !s.IsZero() {
			t.Errorf("%+v is not zero", s)
		}
	}
	for _, s := range []Set{Self(), Dirs("/x"), Files("/x")} {
		if s.IsZero() {
			t.Errorf("%+v is zero", s)
		}
	}
}

// The zero Set watches nothing and is no error.
func TestOpenZeroSet(t *testing.T) {
	t.Parallel()
	p := watch(t, Set{})
	p.silent()
	try(t, p.w.Close())
	if _, ok := <-p.w.Changes(); ok {
		t.Error("a change of nothing")
	}
}

func TestSetDefaults(t *testing.T) {
	t.Parallel()
	p, err := Set{}.plan()
	try(t, err)
	if p.settle != 300*time.Millisecond || p.maxSettle != 10*time.Second || p.poll != 5*time.Second || p.log == nil {
		t.Errorf("defaults: %+v", p)
	}
	p, err = Set{Settle: time.Minute, MaxSettle: time.Second, Poll: -1}.plan()
	try(t, err)
	if p.maxSettle != time.Minute || p.poll >= 0 {
		t.Errorf("MaxSettle below Settle: %+v", p)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), "")
	none := filepath.Join(dir, "none")
	tests := map[string]struct {
		set  Set
		text string
		is   error
	}{
		"missing file":       {Files(none), none, fs.ErrNotExist},
		"missing directory":  {Dirs(none), none, fs.ErrNotExist},
		"file in Dirs":       {Dirs(file), file + ": not a directory, which belongs into Files", nil},
		"directory in Files": {Files(dir), dir + ": is a directory, which belongs into Dirs", nil},
		"device in Files":    {Files(os.DevNull), "not a regular file", nil},
		"empty path":         {Files(""), "empty path", nil},
		"pattern":            {Set{Ignore: []string{"[a"}}, `"[a"`, filepath.ErrBadPattern},
		"negative Settle":    {Set{Settle: -1}, "negative", nil},
		"negative MaxSettle": {Set{MaxSettle: -1}, "negative", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, err := Open(tt.set)
			if err == nil {
				w.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.text) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %q", err)
			}
		})
	}
}

func TestIgnored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	real := mkdir(t, dir, "real")
	try(t, os.Symlink("real", filepath.Join(dir, "link")))
	p, err := Set{
		Ignore:      []string{"*.log"},
		IgnorePaths: []string{filepath.Join(dir, "link/run"), "", filepath.Join(real, "pid")},
	}.plan()
	try(t, err)
	for name, want := range map[string]bool{
		"a.go": false, "gitignore": false, "x-tmp-umask": false, "49130": false, "run2": false,
		".git": true, "a.go~": true, ".#a.go": true, "4913": true, ".a.go.swp": true, ".a.go.swx": true,
		"app-go-tmp-umask": true, "a.log": true, "run": true, "pid": true,
	} {
		if got := p.ignored(filepath.Join(real, name), filepath.Join(real, name)); got != want {
			t.Errorf("%s by its real path: %v", name, got)
		}
		if got := p.ignored(filepath.Join(dir, "link", name), filepath.Join(real, name)); got != want {
			t.Errorf("%s through a link: %v", name, got)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	try(t, err)
	mkdir(t, dir, "releases/1/bin")
	write(t, filepath.Join(dir, "releases/1/bin/app"), "")
	for link, to := range map[string]string{
		"current":                "releases/1",
		"releases/1/bin/default": "../bin/app",
		"absolute":               filepath.Join(dir, "current/bin/default"),
		"dangling":               "releases/2/app",
		"round":                  "round",
	} {
		try(t, os.Symlink(to, filepath.Join(dir, link)))
	}
	in := func(sub, name string) hint { return hint{filepath.Join(dir, sub), name} }
	app := filepath.Join(dir, "releases/1/bin/app")
	tests := map[string]struct {
		real  string
		hints []hint
	}{
		"releases/1/bin/app":   {app, nil},
		"current/bin/app":      {app, []hint{in("", "current")}},
		"current/bin/../bin/.": {filepath.Dir(app), []hint{in("", "current")}},
		"absolute":             {app, []hint{in("", "absolute"), in("", "current"), in("releases/1/bin", "default")}},
		"dangling":             {"", []hint{in("", "dangling"), in("releases", "2")}},
		"current/none/app":     {"", []hint{in("", "current"), in("releases/1", "none")}},
		"current/bin/app/x":    {"", []hint{in("", "current"), in("releases/1/bin", "app")}},
	}
	for path, want := range tests {
		// Not Join, which would take out the dots.
		real, hints, err := resolve(dir + "/" + path)
		if (err == nil) != (want.real != "") || real != want.real {
			t.Errorf("%s: %q, %v", path, real, err)
		}
		if len(hints) != len(want.hints) {
			t.Errorf("%s: hints %v, want %v", path, hints, want.hints)
			continue
		}
		for i := range hints {
			if hints[i] != want.hints[i] {
				t.Errorf("%s: hints %v, want %v", path, hints, want.hints)
			}
		}
	}
	if _, hints, err := resolve(filepath.Join(dir, "round")); err == nil || len(hints) == 0 {
		t.Errorf("a link to itself: %v, %v", hints, err)
	}
}
