package daemon

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/brooddaemon/brood/internal/inherit"
)

// passed are the environment variables that children get without being asked for: what programs need to find their way,
// nobody's secrets. A star stands for any rest.
var passed = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "HOSTNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR", "TERM", "COLORTERM",
	"NO_COLOR", "TMPDIR", "XDG_*", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
	"http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", "GORACE", "GOCOVERDIR",
	inherit.Var + "_*",
}

// withheld are those that root's children get only if they are named in full: they change what a program loads or tells.
var withheld = []string{"LD_*", "GODEBUG", "GOTRACEBACK", "FSNOTIFY_DEBUG"}

// personal are those that belong to the user who has started the daemon, and pass to another one as little.
var personal = []string{"SHELL", "PWD", "XDG_*"}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if rest, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, rest)
		}
		return p == name
	})
}

// buildEnviron makes the environment of the children out of that of the daemon and Config.Environ. It returns the
// names of those variables that they do not get, too.
func buildEnviron(environ, wanted []string, root bool, id *identity) (env, left []string) {
	var not []string
	if root {
		not = withheld
	}
	if id != nil {
		not = append(slices.Clip(not), personal...)
	}
	wanted = append(id.environ(), wanted...)
	var names, set []string
	for _, w := range wanted {
		if name, _, ok := strings.Cut(w, "="); ok {
			set = append(set, name)
			env = append(env, w)
			continue
		}
		names = append(names, w)
	}
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case slices.Contains(set, name):
		case slices.Contains(names, name), (matches(passed, name) || matches(names, name)) && !matches(not, name):
			env = append(env, kv)
		default:
			left = append(left, name)
		}
	}
	slices.Sort(left)
	return env, left
}

// checkEnviron reports an entry of Config.Environ that means nothing.
func checkEnviron(entries []string) error {
	for _, e := range entries {
		name, _, assigned := strings.Cut(e, "=")
		stars := strings.Count(name, "*")
		if name == "" || stars > 0 && (assigned || stars > 1 || !strings.HasSuffix(name, "*")) || strings.Contains(e, "\x00") {
			return fmt.Errorf("field Environ has %q: want NAME, NAME=value, or the begin of names and a *", e)
		}
	}
	return nil
}

// childEnviron is the environment of one child: what all of them get, its claim, and the mark of its tree.
func (p *Parent) childEnviron(j spawnJob) []string {
	claim := inherit.Claim{
		Role: inherit.Child, Proto: j.program.speaks.With(inherit.Spoken), Slot: j.slot, Generation: j.generation, Listeners: len(p.listenersOf(j.kind)), Kind: uint64(j.kind),
	}
	env := slices.Clip(j.program.terms.environ)
	if os.Getenv("GOMAXPROCS") == "" {
		claim.Procs = true
		env = append(env, "GOMAXPROCS="+strconv.Itoa(j.program.terms.cfg.procs()))
	}
	return append(env, claim.Environ(), p.mark(j.who))
}

// mark is what marks everything that a child's jobs start: an entry of their environment that names this child.
func (p *Parent) mark(w who) string {
	return fmt.Sprintf("%s=%d.%d.%d.%d", inherit.TreeVar, p.self.PID, p.self.Start, w.slot, w.life)
}
