package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/brooddaemon/brood"

// A pkg is a package of the module as go list sees it.
type pkg struct {
	ImportPath string
	Name       string
	Imports    []string // its own, without those of its tests
	Deps       []string // all that these bring
}

func (p pkg) short() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

// within reports whether the package is one of these or lies below one of them.
func (p pkg) within(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return p.short() == d || strings.HasPrefix(p.short(), d+"/") })
}

// foundation are the packages of layer 0: useful alone, and none of them knows another.
var foundation = []string{"scoreboard", "netmon", "reload", "internal"}

// allowed are the modules that a layer-0 package may use beside the standard library.
var allowed = map[string][]string{
	"scoreboard":        {"golang.org/x/sys"},
	"netmon":            {"golang.org/x/sys"},
	"reload":            {"golang.org/x/sys", "github.com/fsnotify/fsnotify"},
	"internal/inherit":  {"golang.org/x/sys"},
	"internal/pidfile":  {"golang.org/x/sys"},
	"internal/control":  {"golang.org/x/sys"},
	"internal/tree":     {"golang.org/x/sys"},
	"internal/notify":   {"golang.org/x/sys"},
	"internal/conffile": {},
	"internal/logs":     {"golang.org/x/sys", "gopkg.in/natefinch/lumberjack.v2"},
}

// ofTheCommand are the modules that only cmd/brood uses.
var ofTheCommand = []string{"github.com/spf13/", "charm.land/", "github.com/charmbracelet/", "github.com/prometheus/"}

// An arrow between packages may only point down: the foundation, then daemon, then daemon/serve and cmd/brood, then the
// examples. And a process that may be root does not carry code that reads what strangers send.
func TestLayers(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Imports,Deps", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	found := map[string]bool{}
	for _, p := range all {
		found[p.short()] = true
		p.check(t)
	}
	for _, want := range []string{"scoreboard", "netmon", "reload", "daemon", "daemon/serve", "cmd/brood", "cmd/brood/internal/view", "cmd/brood/internal/top",
		"cmd/brood/internal/doctor", "cmd/brood/internal/web", "internal/inherit",
		"internal/pidfile", "internal/logs", "internal/control", "internal/tree", "internal/notify", "internal/conffile", "internal/rules", "examples/echo", "examples/jobs",
		"examples/spool", "examples/c10k"} {
		if !found[want] {
			t.Errorf("there is no package %s", want)
		}
	}
}

func (p pkg) check(t *testing.T) {
	for _, dep := range p.Deps {
		d := pkg{ImportPath: dep}
		ours := strings.HasPrefix(dep, module+"/")
		host, _, _ := strings.Cut(dep, "/")
		foreign := !ours && strings.Contains(host, ".") // the standard library has no host
		bad := ""
		switch {
		case p.within(foundation...) && ours && !d.within(p.short()):
			bad = "is of the foundation and must not know another package of the module"
		case p.within(foundation...) && foreign && !p.may(dep):
			bad = "may not use that module"
		case p.short() == "daemon" && ours && !d.within(foundation...):
			bad = "may only know the foundation"
		case p.short() == "daemon" && slices.Contains([]string{"net/http", "html/template", "text/template", "encoding/gob", "net/rpc"}, dep):
			bad = "is in a process that may be root, and that must not carry it"
		case p.within("cmd/brood") && d.within("daemon"):
			bad = "looks from outside: files, signals and the control socket are its interface"
		case p.Name != "main" && !p.within("daemon/serve", "cmd/brood/internal/web") && dep == "net/http":
			bad = "is a library; only daemon/serve and brood's page have net/http"
		case p.within("cmd/brood/internal/view") && ours && !d.within("scoreboard", "internal", p.short()):
			bad = "shows what the scoreboard tells and /proc, and no more"
		case p.within("cmd/brood/internal/top") && ours && !d.within("cmd/brood/internal/view", "scoreboard", "internal", p.short()):
			bad = "is a view: what it sees and does it is given"
		case !p.within("cmd/brood") && slices.ContainsFunc(ofTheCommand, func(m string) bool { return strings.HasPrefix(dep, m) }):
			bad = "is no command line: daemons do not carry that module"
		case ours && d.within("examples", "test", "cmd") && !(p.within("cmd/brood") && d.within("cmd/brood/internal")):
			bad = "must not know a program"
		}
		if bad != "" {
			t.Errorf("%s imports %s, directly or not: it %s", p.short(), dep, bad)
		}
	}
}

// may reports whether a package of the foundation may use another module's package.
func (p pkg) may(dep string) bool {
	return slices.ContainsFunc(allowed[p.short()], func(m string) bool { return dep == m || strings.HasPrefix(dep, m+"/") })
}
