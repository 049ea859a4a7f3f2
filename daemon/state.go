package daemon

import "log/slog"

// describe puts the state of the daemon into words, for the board and the service manager, and tells when it has begun to be one that
// somebody may wait for or has to look after.
func (p *pool) describe() {
	s := &p.status
	before := s.State
	s.Want, s.Generation, s.Rolling = p.target, p.generation, 0
	switch {
	case p.stopping != stopNot:
		s.State = "stopping"
	case p.booting:
		s.State = "starting"
	case p.holding():
		s.State = "upgrading"
	case p.roll != nil:
		s.State, s.Rolling = "reloading", p.roll.generation
	case p.drained:
		s.State, s.Want = "drained", 0
		if len(p.members) > 0 {
			s.State = "draining"
		}
	case p.retryAt() != never, p.dequeue.failures > 1:
		s.State = "degraded"
	default:
		s.State, p.trouble = "serving", ""
	}
	if s.Trouble = ""; s.State == "degraded" {
		s.Trouble = p.trouble
	}
	switch {
	case s.State == "drained" && before != "drained" && before != "upgrading":
		p.log(slog.LevelInfo, nil, "drained")
	case s.State == "degraded" && before != "degraded":
		p.log(slog.LevelDebug, nil, "degraded", "reason", s.Trouble)
	case s.State == "serving" && before == "degraded":
		p.log(slog.LevelDebug, nil, "recovered")
	}
}
