package web

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/brooddaemon/brood/cmd/brood/internal/view"
	"github.com/brooddaemon/brood/internal/logs"
)

//go:embed static
var static embed.FS

// policy lets the page load its own files, and nothing run that is not one of them.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// Handler answers requests: for all daemons at /, /stream, /metrics, /healthz and /status.json, and for one of them at the same
// paths below /d/NAME. Nothing can be changed through it. What it answers is as old as the last look, so Serve has to run for
// a page to live.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/static/{file}", s.file)
	s.routes(mux, "", s.all)
	for _, w := range s.all {
		s.routes(mux, "/d/"+w.name, []*watcher{w})
	}
	return s.guard(mux)
}

func (s *Server) routes(mux *http.ServeMux, prefix string, which []*watcher) {
	mux.HandleFunc(prefix+"/{$}", func(w http.ResponseWriter, r *http.Request) { s.page(w, prefix, which) })
	mux.HandleFunc(prefix+"/stream", func(w http.ResponseWriter, r *http.Request) { s.stream(w, r, which) })
	mux.HandleFunc(prefix+"/status.json", func(w http.ResponseWriter, r *http.Request) { s.status(w, r, which) })
	mux.HandleFunc(prefix+"/healthz", func(w http.ResponseWriter, r *http.Request) { s.health(w, which) })
	mux.Handle(prefix+"/metrics", s.metrics(which))
}

// guard refuses what no page and no scraper of ours would ask.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		refuse := func(status int, text string) {
			h.Set("Connection", "close") // what is left of the request is not waited for
			http.Error(w, text, status)
		}
		switch {
		case !s.isHost(r):
			refuse(http.StatusMisdirectedRequest, "brood web does not answer for this host: --host NAME allows it")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			refuse(http.StatusMethodNotAllowed, "there is nothing here that could be changed")
		case r.ContentLength != 0:
			refuse(http.StatusRequestEntityTooLarge, "a request for this has no body")
		case r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate":
			refuse(http.StatusForbidden, "this is not for pages of others")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isHost reports whether the request is for a host that this may be: see New.
func (s *Server) isHost(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" || slices.ContainsFunc(s.hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if ip = ip.Unmap().WithZone(""); ip.IsLoopback() {
		return true
	}
	here, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return here != nil && here.AddrPort().Addr().Unmap().WithZone("") == ip
}

var types = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// file answers with one of the page's own files.
func (s *Server) file(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	b, err := static.ReadFile("static/" + name)
	kind := types[path.Ext(name)]
	if err != nil || kind == "" {
		http.NotFound(w, r)
		return
	}
	tag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(b))[:32])
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache") // ask each time whether it is the same
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write(b)
}

// answer sends a text. The server sends no body after HEAD.
func answer(w http.ResponseWriter, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// unknown is what there is to say of a daemon whose board cannot be read.
type unknown struct {
	Running bool   `json:"running"` // false
	Problem string `json:"problem"`
}

// status answers with what brood status --json prints, by the names of the daemons.
func (s *Server) status(w http.ResponseWriter, r *http.Request, which []*watcher) {
	b, err := s.snapshots(r.Context(), which)
	if r.Context().Err() != nil {
		return
	}
	if err != nil {
		http.Error(w, logs.Escape(err.Error()), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, "application/json", append(b, '\n'))
}

// snapshots looks anew at daemons, for a few requests at once: the others wait for their turn, or until ctx ends.
func (s *Server) snapshots(ctx context.Context, which []*watcher) ([]byte, error) {
	select {
	case s.looks <- struct{}{}:
		defer func() { <-s.looks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	all := map[string]any{}
	for _, d := range which {
		if seen, err := view.Look(d.path); err != nil {
			all[d.name] = unknown{Problem: err.Error()}
		} else {
			all[d.name] = seen
		}
	}
	return json.MarshalIndent(all, "", "  ")
}

// health answers 200 if every daemon serves, else 503, with a line for each.
func (s *Server) health(w http.ResponseWriter, which []*watcher) {
	s.refresh(fresh)
	code, lines := http.StatusOK, strings.Builder{}
	s.mu.Lock()
	for _, d := range which {
		why := d.serves()
		if why != "" {
			code = http.StatusServiceUnavailable
		} else {
			why = "ok"
		}
		fmt.Fprintf(&lines, "%s: %s\n", d.name, why)
	}
	s.mu.Unlock()
	answer(w, code, "text/plain; charset=utf-8", []byte(lines.String()))
}
