package daemon

import (
	"encoding/json"
	"net"
	"path/filepath"
	"time"

	"github.com/brooddaemon/brood/internal/control"
	"github.com/brooddaemon/brood/scoreboard"
)

// An operator is somebody at the control socket who waits for an answer.
type operator struct {
	conn     *net.UnixConn
	req      control.Request    // without a verb it has not been read
	answer   chan control.Reply // one
	progress chan string        // the newest line of it that he has not been told
	told     string             // what was put there last
}

func newOperator(c *net.UnixConn, req control.Request) *operator {
	return &operator{conn: c, req: req, answer: make(chan control.Reply, 1), progress: make(chan string, 1)}
}

// reply answers, once.
func (o *operator) reply(err error) {
	if err != nil {
		o.answer <- control.Reply{Error: err.Error()}
		return
	}
	o.answer <- control.Reply{OK: true}
}

// last is his answer when the loop has ended.
func (o *operator) last() control.Reply {
	select {
	case r := <-o.answer:
		return r
	default:
	}
	if o.req.Verb == control.VerbStop {
		return control.Reply{OK: true}
	}
	return control.Reply{Error: "the daemon has stopped"}
}

// hears leaves a line of progress for him. Of several that he is too slow for he gets the newest.
func (o *operator) hears(text string) {
	if text == "" || text == o.told {
		return
	}
	o.told = text
	select {
	case <-o.progress:
	default:
	}
	o.progress <- text
}

// await keeps an operator's connection, and what he has asked for, for the new program to answer on.
func (s *succession) await(c *net.UnixConn, req control.Request) *operator {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = map[*net.UnixConn]*operator{}
	}
	o := newOperator(c, req)
	s.waiting[c] = o
	return o
}

// answered forgets an operator.
func (s *succession) answered(c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, c)
}

// tellProgress tells operators who wait for something how far it is.
func (l *loop) tellProgress() {
	l.succession.mu.Lock()
	defer l.succession.mu.Unlock()
	for _, o := range l.succession.waiting {
		if o.req.Verb != "" && !o.req.Begin {
			o.hears(l.pool.progress(o.req))
		}
	}
}

// lastAnswers is how long operators may take for their answers when the loop has ended.
const lastAnswers = 250 * time.Millisecond

// answerLast waits until every operator whose request has been taken has his answer: the end of the process would cut it off.
func (l *loop) answerLast() {
	waits := func() bool {
		l.succession.mu.Lock()
		defer l.succession.mu.Unlock()
		for _, o := range l.succession.waiting {
			if o.req.Verb != "" {
				return true
			}
		}
		return false
	}
	for end := time.Now().Add(lastAnswers); waits() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// tellOperator answers a question that changes nothing.
func (l *loop) tellOperator(req control.Request) control.Reply {
	data, err := json.RawMessage(nil), error(nil)
	switch req.Verb {
	case control.VerbStatus:
		data, err = l.statusData()
	case control.VerbEvents:
		data, err = l.eventsData(req.N)
	}
	if err != nil {
		return control.Reply{Error: err.Error()}
	}
	return control.Reply{OK: true, Data: data}
}

// statusData is what the scoreboard shows, as brood status --json prints it.
func (p *Parent) statusData() (json.RawMessage, error) {
	s, err := scoreboard.Read(p.boardPath())
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Running bool `json:"running"`
		*scoreboard.Snapshot
	}{true, s})
}

// eventsData is a list of the last n events, 0: of all there are, each as brood events --json prints it.
func (p *Parent) eventsData(n int) (json.RawMessage, error) {
	ring, err := scoreboard.OpenRing(p.boardPath())
	if err != nil {
		return nil, err
	}
	defer ring.Close()
	all, err := ring.Since(0)
	if err != nil {
		return nil, err
	}
	if n > 0 {
		all = all[max(len(all)-n, 0):]
	}
	if all == nil {
		all = []scoreboard.Event{}
	}
	return json.Marshal(all)
}

func (p *Parent) boardPath() string { return filepath.Join(p.cfg.RunDir, control.BoardName) }
