package reload

import (
	"math"
	"time"
)

// never is the wait of a settle that has nothing to wait for.
const never = time.Duration(math.MaxInt64)

// longestPause bounds the doubling of the pause between looks at a file that is still being written.
const longestPause = 2 * time.Second

// settle decides when to look. It has no clock and does nothing; all of it is arithmetic on the times it is told.
//
//	state      how it gets there                          next look
//	clean      done                                       none
//	dirty      event                                      quiet after the last event, at most max after the first
//	holding    hold: a look found a file still moving      a pause later, or quiet after a further event if sooner
//
// No event is ever forgotten: it is answered by a look that begins at least quiet after it, or by max.
type settle struct {
	quiet, max time.Duration

	first time.Time     // of the events not answered; zero means clean
	last  time.Time     // newest event since the last look; zero means none
	again time.Time     // when to look again while holding; zero means not holding
	pause time.Duration // last pause while holding
}

// event notes that something may have changed.
func (s *settle) event(now time.Time) {
	if s.first.IsZero() {
		s.first = now
	}
	s.last = now
}

// due says whether it is time to look, and if not, how long to wait provided that no event comes.
func (s *settle) due(now time.Time) (bool, time.Duration) {
	if s.first.IsZero() {
		return false, never
	}
	at := s.again
	if at.IsZero() {
		at = s.first.Add(s.max)
	}
	if !s.last.IsZero() {
		if quiet := s.last.Add(s.quiet); quiet.Before(at) {
			at = quiet
		}
	}
	if wait := at.Sub(now); wait > 0 {
		return false, wait
	}
	return true, 0
}

// dirty says whether a look is owed.
func (s *settle) dirty() bool { return !s.first.IsZero() }

// calm says whether events themselves prove that nothing moved for the quiet time. A poll, a look forced by max
// and a look after a pause have no such proof.
func (s *settle) calm(now time.Time) bool {
	return !s.last.IsZero() && now.Sub(s.last) >= s.quiet
}

// overdue says whether files at rest have waited for moving ones long enough.
func (s *settle) overdue(now time.Time) bool {
	return !s.first.IsZero() && now.Sub(s.first) >= s.max
}

// hold asks for another look because this one found a file still moving. The pause is at least quiet, so that two
// looks that agree mean something, and doubles, so that a file that grows all day costs little. It does not pass by max.
func (s *settle) hold(now time.Time) {
	if s.first.IsZero() {
		s.first = now
	}
	s.last = time.Time{}
	s.pause = max(s.quiet, min(2*s.pause, longestPause))
	s.again = now.Add(s.pause)
	if limit := s.first.Add(s.max); limit.Before(s.again) && !limit.Before(now.Add(s.quiet)) {
		s.again = limit
	}
}

// release notes that all but the moving files were answered for.
func (s *settle) release(now time.Time) { s.first = now }

// done notes that everything was answered for.
func (s *settle) done() { *s = settle{quiet: s.quiet, max: s.max} }
