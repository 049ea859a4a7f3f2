package daemon

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/brooddaemon/brood/internal/conffile"
)

// terms are what a configuration means on this system. A generation has those of its begin, to its end. The parent's own change with
// a reload that has succeeded, and not before: until then the old generation may come back, and finds them as they were.
//
// Parent.cfg is what the parent has begun with, for what cannot change meanwhile. Nothing of either is ever written to.
type terms struct {
	cfg      Config      // complete
	file     *configText // what it was read from; nil: there is no file
	rlimits  []rlimit
	owners   []uint32 // who may own the program beside root
	environ  []string // of children
	warnings []string
	refused  string // what the file says and the running parent does not do; empty: nothing
}

// now returns the terms that hold for the parent, on any goroutine.
func (p *Parent) now() *terms {
	if t := p.terms.Load(); t != nil {
		return t
	}
	return &terms{cfg: p.cfg, owners: p.owners} // it has not begun
}

// agree makes what the parent begins with the terms that hold.
func (p *Parent) agree(warnings []string) {
	t := &terms{cfg: p.cfg, rlimits: p.rlimits, owners: p.owners, environ: p.environ, warnings: warnings}
	if p.cfg.settings != nil {
		t.file = p.cfg.settings.file
	}
	p.terms.Store(t)
}

// settleConfig completes a Config and finds out what it means on this system, for a parent that nothing else becomes of.
func settleConfig(cfg Config) (q *Parent, warnings []string, err error) {
	q = &Parent{asked: cfg.MaxChildren != 0}
	if err = cfg.complete(); err == nil {
		q.cfg = cfg
		warnings, err = q.settle()
	}
	return q, warnings, err
}

// renew reads the configuration file as it is now. The error says why it cannot hold for this parent.
func (p *Parent) renew() (*terms, error) {
	s := p.cfg.settings
	if s == nil || s.file == nil {
		return p.now(), nil
	}
	file, err := readConfig(s.file.Path, func(fd int) error { return s.trust(s.file.Path, fd) })
	if err != nil {
		return nil, err
	}
	return p.termsOf(file)
}

// termsOf are the terms that a configuration file makes.
func (p *Parent) termsOf(file *configText) (*terms, error) {
	s := p.cfg.settings
	entries, err := conffile.Parse(file.Path, []byte(file.Text))
	if err != nil {
		return nil, err
	}
	cfg, err := s.with(entries)
	if err != nil {
		return nil, err
	}
	q, warnings, err := settleConfig(cfg)
	if err != nil {
		return nil, s.blame(file.Path, entries, err)
	}
	if n := slotsFor(&q.cfg); p.board != nil && n > p.board.Slots() {
		return nil, fmt.Errorf("fields MaxChildren, %d, MaxDrainingChildren, %d, and Dequeue.Max, %d, take %d places on the scoreboard, "+
			"and the daemon that runs has %d: stop and start it", q.cfg.MaxChildren, q.cfg.MaxDrainingChildren, q.cfg.Dequeue.Max, n, p.board.Slots())
	}
	if n := p.places(); n > 0 && n != q.cfg.Prefork {
		return nil, fmt.Errorf("field Prefork is %d, and %d in the daemon that runs, which has so many queues: stop and start it", q.cfg.Prefork, n)
	}
	t := &terms{cfg: q.cfg, file: file, rlimits: q.rlimits, owners: q.owners, warnings: warnings, refused: refused(p.cfg, q.cfg)}
	t.environ, _ = buildEnviron(p.inherited, q.cfg.Environ, os.Geteuid() == 0, p.identity)
	return t, nil
}

// termsFor are those of a generation that the parent before this one has begun, of which only its papers are known.
func (p *Parent) termsFor(known papers) *terms {
	if t := p.now(); known.Config == nil || t.file == nil || *known.Config == *t.file {
		return t
	}
	t, err := p.termsOf(known.Config)
	if err != nil { // this program understands another language
		return p.now()
	}
	return t
}

// refused names what has changed between two configurations and cannot change in a parent that runs, and what it takes. Both are
// complete.
func refused(was, is Config) string {
	needs := map[effect][]string{}
	after := fieldsOf(&is)
	for i, x := range fieldsOf(&was) {
		if !same(x.at, after[i].at) {
			e := effectOf(x.name)
			needs[e] = append(needs[e], key(x.name))
		}
	}
	var texts []string
	for _, e := range []effect{upgrades, restarts} {
		if names := needs[e]; len(names) > 0 {
			texts = append(texts, fmt.Sprintf("%s: %s", e, strings.Join(names, ", ")))
		}
	}
	return strings.Join(texts, "; ")
}

// adopt makes the terms of a generation that has proved itself those of the parent.
func (l *loop) adopt(generation uint64) {
	prog := l.programs[generation]
	was := l.now()
	if prog == nil || prog.terms == was {
		return
	}
	t := prog.terms
	l.terms.Store(t)
	l.later = append(l.later, evLimits{limitsOf(&t.cfg, l.pool.queues, l.board.Slots())})
	for _, w := range t.warnings {
		if !slices.Contains(was.warnings, w) {
			l.log.Warn(w)
		}
	}
	if changed := changes(was.cfg, t.cfg); changed != "" {
		l.log.Info("settings changed", "file", t.file.Path, "changed", changed)
	}
	if t.refused != "" {
		l.log.Warn("settings have changed that cannot while the daemon runs", "file", t.file.Path, "refused", t.refused)
	}
	if l.level.moved == "" {
		l.level.set(t.cfg.LogLevel)
	}
	if l.idle != nil {
		l.idle.Reset(t.cfg.IdleEvery)
	}
}

// changes names what is another value in the second configuration and holds from now on, with both values.
func changes(was, is Config) string {
	a, b := settingsOf(&was), settingsOf(&is)
	var all []string
	for i, x := range a.fields {
		if effectOf(x.name) == live && !same(x.at, b.fields[i].at) {
			all = append(all, fmt.Sprintf("%s %s -> %s", key(x.name), a.fs.Lookup(x.name).Value, b.fs.Lookup(x.name).Value))
		}
	}
	return strings.Join(all, ", ")
}
