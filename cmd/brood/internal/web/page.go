package web

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/brooddaemon/brood/internal/logs"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// firstEvents is how many a page has before its stream begins.
const firstEvents = 50

// A page is what the template shows: all that a reader without scripts gets, and a moment later a reader with scripts sees it live.
type page struct {
	Prefix  string
	Title   string
	Names   []string // of all daemons
	Daemons []section
}

// A section is about one daemon.
type section struct {
	Name        string
	Head        head
	Facts       []fact
	Generations []generation
	Events      []line
}

// A generation is the children of one.
type generation struct {
	Title    string
	Children []child
}

// A line is an event.
type line struct {
	Time string
	event
}

// page answers with what is known now.
func (s *Server) page(w http.ResponseWriter, prefix string, which []*watcher) {
	s.refresh(fresh)
	p, now := page{Prefix: prefix, Title: "brood"}, time.Now()
	s.mu.Lock()
	for _, d := range s.all {
		p.Names = append(p.Names, d.name)
	}
	for _, d := range which {
		p.Daemons = append(p.Daemons, d.section(now))
	}
	s.mu.Unlock()
	if len(which) == 1 {
		p.Title = which[0].name
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		http.Error(w, logs.Escape(err.Error()), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, "text/html; charset=utf-8", b.Bytes())
}

func (w *watcher) section(now time.Time) section {
	s := section{Name: w.name, Head: w.shown.head}
	for _, f := range s.Head.Facts {
		f.Text = strings.Replace(f.Text, "{age}", age(now.UnixMilli()-f.At), 1)
		s.Facts = append(s.Facts, f)
	}
	groups := map[uint64][]child{}
	for _, c := range w.shown.children {
		groups[c.value.Generation] = append(groups[c.value.Generation], c.value)
	}
	for g, children := range groups {
		slices.SortFunc(children, func(a, b child) int { return a.Slot - b.Slot })
		s.Generations = append(s.Generations, generation{fmt.Sprintf("generation %d", g), children})
	}
	slices.SortFunc(s.Generations, func(a, b generation) int {
		if a.Children[0].Generation < b.Children[0].Generation {
			return -1
		}
		return 1
	})
	events := w.shown.events
	for _, e := range slices.Backward(events[max(0, len(events)-firstEvents):]) {
		s.Events = append(s.Events, line{time.UnixMilli(e.value.Time).Format(time.TimeOnly), e.value})
	}
	return s
}

// age shows milliseconds as text.js does a moment later.
func age(ms int64) string {
	d := max(0, time.Duration(ms)*time.Millisecond)
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
