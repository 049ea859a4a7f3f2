package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	maxPages  = 64
	pause     = 500 * time.Millisecond // between two messages, at least
	heartbeat = 5 * time.Second        // a word at least so often, so that a page knows that it is connected
	writeTime = 10 * time.Second       // for one message
)

// A message is what a page has missed.
type message struct {
	Now     int64   `json:"now"` // the server's clock, ms
	Daemons []delta `json:"daemons"`
}

// stream tells a page what is new for as long as it is open. A page that is slow gets fewer and longer messages; nothing is
// kept for it.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, which []*watcher) {
	if !s.enter() {
		w.Header().Set("Retry-After", "5")
		http.Error(w, fmt.Sprintf("%d pages are open already", maxPages), http.StatusServiceUnavailable)
		return
	}
	defer s.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	beat := time.NewTimer(heartbeat)
	defer beat.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for known := uint64(0); ; {
		select { // the time since the last message first
		case <-rest.C:
		case <-s.ending:
			return
		case <-r.Context().Done():
			return
		}
		m, version, news := s.missed(known, which)
		known = version
		var text []byte
		if len(m.Daemons) > 0 {
			b, err := json.Marshal(m)
			if err != nil {
				return
			}
			text = fmt.Appendf(nil, "data: %s\n\n", b)
		} else {
			select {
			case <-news:
				rest.Reset(0)
				continue
			case <-beat.C:
				text = fmt.Appendf(nil, "event: beat\ndata: %d\n\n", time.Now().UnixMilli())
			case <-s.ending:
				return
			case <-r.Context().Done():
				return
			}
		}
		if out.SetWriteDeadline(time.Now().Add(writeTime)) != nil {
			return
		}
		if _, err := w.Write(text); err != nil || out.Flush() != nil || r.Method == http.MethodHead {
			return
		}
		beat.Reset(heartbeat)
		rest.Reset(pause)
	}
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pages == maxPages {
		return false
	}
	if s.pages++; s.pages == 1 {
		select {
		case s.opened <- struct{}{}:
		default:
		}
	}
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages--
}

// missed returns what a page that knows a version has missed, the version it knows then, and what is closed when there is a
// newer one.
func (s *Server) missed(known uint64, which []*watcher) (message, uint64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := message{Now: time.Now().UnixMilli()}
	for _, w := range which {
		if d, any := w.shown.since(w.name, known); any {
			m.Daemons = append(m.Daemons, d)
		}
	}
	return m, s.version, s.news
}
