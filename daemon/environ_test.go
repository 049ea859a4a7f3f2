package daemon

import (
	"slices"
	"strings"
	"testing"
)

func TestBuildEnviron(t *testing.T) {
	environ := []string{"PATH=/bin", "HOME=/h", "LC_ALL=C", "http_proxy=p", "SECRET=s", "APP_A=1", "APP_B=2", "APPLE=3", "BROOD_PREFORK=2",
		"GOGC=50", "LD_PRELOAD=x", "LD_LIBRARY_PATH=y", "GODEBUG=d", "GOTRACEBACK=all", "FSNOTIFY_DEBUG=1", "EMPTY="}
	const usual = "PATH=/bin HOME=/h LC_ALL=C http_proxy=p BROOD_PREFORK=2 GOGC=50"
	const debug = " GODEBUG=d GOTRACEBACK=all"
	for _, c := range []struct {
		wanted, env string // separated by blanks
		root        bool
	}{
		{"", usual, true},
		{"", usual + debug, false},
		{"SECRET", usual + " SECRET=s", true},
		{"APP_*", usual + " APP_A=1 APP_B=2", true},
		{"APP* NONE", usual + " APP_A=1 APP_B=2 APPLE=3", true},
		{"EMPTY", usual + " EMPTY=", true},
		{"NEW=n", usual + " NEW=n", true},
		{"NEW=", usual + " NEW=", true},
		{"PATH=/only", strings.Replace(usual, "/bin", "/only", 1), true},
		{"SECRET=other SECRET", usual + " SECRET=other", true},
		{"X=a=b*c", usual + " X=a=b*c", true},
		// What changes a program passes from root only if it is named in full.
		{"LD_*", usual, true},
		{"LD_*", usual + debug + " LD_PRELOAD=x LD_LIBRARY_PATH=y", false},
		{"LD_PRELOAD", usual + " LD_PRELOAD=x", true},
		{"GODEBUG GOTRACE*", usual + " GODEBUG=d", true},
		{"LD_PRELOAD=mine", usual + " LD_PRELOAD=mine", true},
		{"*", usual + " SECRET=s APP_A=1 APP_B=2 APPLE=3 EMPTY=", true},
		{"* FSNOTIFY_DEBUG", usual + " SECRET=s APP_A=1 APP_B=2 APPLE=3 EMPTY= FSNOTIFY_DEBUG=1", true},
		{"*", strings.Join(environ, " "), false},
	} {
		env, left := buildEnviron(environ, strings.Fields(c.wanted), c.root, nil)
		got, want := slices.Sorted(slices.Values(env)), slices.Sorted(slices.Values(strings.Fields(c.env)))
		if !slices.Equal(got, want) {
			t.Errorf("%q as root %v: got %q, want %q", c.wanted, c.root, got, want)
		}
		// Whatever the daemon has is either passed, set anew or told of.
		for _, kv := range environ {
			name, _, _ := strings.Cut(kv, "=")
			in := slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			if in == slices.Contains(left, name) {
				t.Errorf("%q as root %v: %s is passed: %v, is left: %v", c.wanted, c.root, name, in, !in)
			}
		}
		if !slices.IsSorted(left) {
			t.Errorf("%q: left are %q", c.wanted, left)
		}
	}
}

// What belongs to the user who has started the daemon is not for another one.
func TestBuildEnvironOfSomebodyElse(t *testing.T) {
	environ := []string{"PATH=/bin", "HOME=/boss", "USER=boss", "LOGNAME=boss", "SHELL=/bin/sh", "PWD=/boss/x", "XDG_RUNTIME_DIR=/run/0", "LANG=C"}
	id := &identity{uid: 1, gid: 1, name: "other", home: "/h"}
	const own = "HOME=/h LANG=C LOGNAME=other PATH=/bin USER=other"
	for wanted, want := range map[string]string{
		"":                      own,
		"*":                     own,
		"SHELL XDG_RUNTIME_DIR": own + " SHELL=/bin/sh XDG_RUNTIME_DIR=/run/0",
		"SHELL=/bin/false":      own + " SHELL=/bin/false",
	} {
		env, _ := buildEnviron(environ, strings.Fields(wanted), true, id)
		slices.Sort(env)
		sorted := slices.Sorted(slices.Values(strings.Fields(want)))
		if got, want := strings.Join(env, " "), strings.Join(sorted, " "); got != want {
			t.Errorf("%q: got %q, want %q", wanted, got, want)
		}
	}
}

func TestCheckEnviron(t *testing.T) {
	for entry, fine := range map[string]bool{
		"NAME": true, "NAME=value": true, "NAME=": true, "NAME=a=b": true, "NAME=a*": true, "NAME*": true, "*": true, "lower_1": true,
		"": false, "=": false, "=value": false, "NA*ME": false, "*NAME": false, "**": false, "NAME*=x": false, "N\x00": false, "N=\x00": false,
	} {
		err := checkEnviron([]string{"FINE", entry})
		if (err == nil) != fine {
			t.Errorf("%q: %v, want fine: %v", entry, err, fine)
		}
		if err != nil && !strings.Contains(err.Error(), "field Environ has ") {
			t.Errorf("%q: the error does not say where it is: %v", entry, err)
		}
	}
}
