package daemon

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/brooddaemon/brood/reload"
)

// AutoReloadWhen says when Config.AutoReload is obeyed.
type AutoReloadWhen string

const (
	// NotRoot obeys it unless the parent is root: whoever may write a file that root executes by himself is root.
	NotRoot AutoReloadWhen = "not-root"
	// Always obeys it, also as root.
	Always AutoReloadWhen = "always"
	// Never does not obey it: a reload has to be asked for.
	Never AutoReloadWhen = "never"
)

// Reload asks for a new generation of children, as SIGHUP does, and returns at once. cause is for the log and brood status.
// While the pool is drained it waits until somebody asks for children again. It may be called on any goroutine; when the
// daemon is stopping or has ended it does nothing.
func (p *Parent) Reload(cause string) { go p.post(evReload{cause: cause, unasked: true}) }

// openWatcher starts to watch what Config.AutoReload names; nil if nothing is to be watched. root says that the parent is.
func (p *Parent) openWatcher(root bool) (*reload.Watcher, error) {
	switch {
	case p.cfg.AutoReload.IsZero(), p.cfg.NoFork, p.cfg.AutoReloadWhen == Never:
		return nil, nil
	case p.cfg.AutoReloadWhen == NotRoot && root:
		p.log.Warn("files are not watched for changes, because the daemon runs as root: -auto-reload-when always turns that on; " +
			"brood reload and SIGHUP reload by hand")
		return nil, nil
	}
	set := p.cfg.AutoReload
	set.Logger = p.log
	if p.cfg.AutoReloadCheckEvery != 0 {
		set.Poll = p.cfg.AutoReloadCheckEvery
	}
	// What the daemon itself writes must not make it reload.
	set.IgnorePaths = append([]string{p.cfg.RunDir, p.cfg.PIDFile}, set.IgnorePaths...)
	for _, path := range []string{p.cfg.ErrorLog, p.cfg.AccessLog} {
		if path != "" && path != "-" {
			set.IgnorePaths = append(set.IgnorePaths, path)
			// Rotated ones have a time in their names.
			ext := filepath.Ext(path)
			set.Ignore = append(set.Ignore, strings.TrimSuffix(filepath.Base(path), ext)+"-*"+ext+"*")
		}
	}
	if set.Self {
		set.Self, set.Files = false, append([]string{p.program}, set.Files...)
	}
	if s := p.cfg.settings; s != nil && s.file != nil {
		set.Files = append(slices.Clip(set.Files), s.file.Path)
	}
	return reload.Open(set)
}

// watchesProgram reports whether the program itself is among what is watched.
func (p *Parent) watchesProgram() bool {
	return p.cfg.AutoReload.Self || slices.Contains(p.cfg.AutoReload.Files, p.program)
}

// watchFiles hands each change to whoever deals with it, one after the other. Changes that come meanwhile become one.
func (p *Parent) watchFiles(w *reload.Watcher) {
	over := false
	defer func() {
		if !over {
			p.log.Error("hook failed", "hook", "AutoReloadHandler", "err", errGoexit)
			go p.watchFiles(w)
		}
	}()
	for c := range w.Changes() {
		if p.cfg.AutoReloadHandler == nil {
			p.reloadFor(c)
			continue
		}
		p.attempt("AutoReloadHandler", func() error { p.cfg.AutoReloadHandler(p, c); return nil })
	}
	over = true
}

// reloadFor is what happens to a change unless Config.AutoReloadHandler says otherwise.
func (p *Parent) reloadFor(c reload.Change) {
	cause := c.Paths[0] + " changed"
	if n := len(c.Paths) - 1 + c.More; n > 0 {
		cause = fmt.Sprintf("%s and %d more", cause, n)
	}
	p.post(evReload{cause: cause, auto: len(c.Paths) == 1 && c.Paths[0] == p.program, unasked: true})
}
