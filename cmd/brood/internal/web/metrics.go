package web

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/brooddaemon/brood/internal/logs"
	"github.com/brooddaemon/brood/scoreboard"
)

// metrics answers with figures about daemons. There is no label whose values a client, a job or a reload makes: what a daemon has
// is a fixed number of series.
func (s *Server) metrics(which []*watcher) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{s, which})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 8, Timeout: 10 * time.Second})
}

// A collector makes metrics of the boards when it is asked.
type collector struct {
	server *Server
	which  []*watcher
}

var described []*prometheus.Desc

func describe(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("brood_"+name, help, append([]string{"daemon"}, labels...), nil)
	described = append(described, d)
	return d
}

var (
	upDesc         = describe("up", "Whether the parent is alive and its scoreboard can be read.")
	hangsDesc      = describe("parent_hangs", "Whether the parent is stopped, or does not notice that a child has ended.")
	infoDesc       = describe("info", "The program and its addresses; always 1.", "program", "listen")
	stateDesc      = describe("state", "Whether the daemon is in this state.", "state")
	degradedDesc   = describe("degraded", "Whether something fails again and again.")
	startDesc      = describe("start_time_seconds", "When the parent started, in seconds since 1970. An upgrade is no start.")
	childrenDesc   = describe("children", "Children on the scoreboard.", "state", "kind")
	ageDesc        = describe("generation_children", "Children of the generation that serves, of the one that is coming, and of older ones.", "generation")
	wantedDesc     = describe("children_wanted", "Children wanted, without those that dequeue.")
	bornDesc       = describe("children_born_total", "Children started.")
	diedDesc       = describe("children_died_total", "Children that ended without being asked.")
	killedDesc     = describe("children_killed_total", "Children killed by the parent.")
	doneDesc       = describe("jobs_done_total", "Jobs ended.")
	runningDesc    = describe("jobs_running", "Jobs running.")
	oldestDesc     = describe("job_oldest_seconds", "For how long the oldest of the jobs that the scoreboard describes has been running, 0 if there is none.")
	lostDesc       = describe("clients_lost_total", "Clients that left a running job.")
	skippedDesc    = describe("clients_skipped_total", "Clients that had left before they were accepted.")
	refusedDesc    = describe("clients_refused_total", "Clients that the access rules did not let connect.")
	generationDesc = describe("generation", "The generation that serves.")
	reloadingDesc  = describe("reloading", "Whether a generation is being rolled in, or is on probation.")
	reloadDesc     = describe("reload_success", "Whether the last reload succeeded; 1 if there was none.")
	reloadedDesc   = describe("last_reload_timestamp_seconds", "When the last reload ended, in seconds since 1970; 0 if there was none.")
	memoryDesc     = describe("resident_memory_bytes", "Memory that the parent and its children have in use; what they share counts for each of them.")
	eventsDesc     = describe("events_total", "Decisions and observations of the parent.")
)

// The values of labels.
var (
	states      = []string{"starting", "serving", "reloading", "upgrading", "draining", "drained", "degraded", "stopping"}
	childStates = []scoreboard.State{scoreboard.Starting, scoreboard.Idle, scoreboard.Reading, scoreboard.Working, scoreboard.Cancelling,
		scoreboard.Paused, scoreboard.Draining, 0} // the last is "unknown"
	childKinds  = []scoreboard.Kind{scoreboard.Serve, scoreboard.Dequeue}
	generations = []string{"serving", "coming", "old"}
)

// Describe names the metrics.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range described {
		ch <- d
	}
}

// Collect looks at the boards.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	c.server.refresh(fresh)
	c.server.mu.Lock()
	var all []prometheus.Metric // a reader that is slow must not hold the lock
	for _, w := range c.which {
		all = w.metrics(all, time.Now())
	}
	c.server.mu.Unlock()
	for _, m := range all {
		ch <- m
	}
}

// metrics appends those of one daemon. Of one that has no board there is nothing to say but that.
func (w *watcher) metrics(all []prometheus.Metric, now time.Time) []prometheus.Metric {
	add := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		all = append(all, prometheus.MustNewConstMetric(d, t, v, append([]string{w.name}, labels...)...))
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { add(d, prometheus.GaugeValue, v, labels...) }
	counter := func(d *prometheus.Desc, v uint64) { add(d, prometheus.CounterValue, float64(v)) }

	gauge(upDesc, truth(w.running()))
	s := w.board
	if s == nil {
		return all
	}
	gauge(hangsDesc, truth(w.condition == hangs || w.condition == stopped))
	gauge(infoDesc, 1, logs.Escape(s.Program), logs.Escape(s.Listen))
	for _, state := range states {
		gauge(stateDesc, truth(w.running() && s.State == state), state)
	}
	gauge(degradedDesc, truth(w.running() && s.State == "degraded"))
	gauge(startDesc, seconds(s.Created))
	w.childMetrics(gauge, now)
	gauge(wantedDesc, float64(s.Want))
	counter(bornDesc, w.counters.born)
	counter(diedDesc, w.counters.died)
	counter(killedDesc, w.counters.killed)
	counter(doneDesc, w.counters.done)
	counter(lostDesc, w.counters.lost)
	counter(skippedDesc, w.counters.skipped)
	counter(refusedDesc, w.counters.refused)
	gauge(generationDesc, float64(s.Generation))
	gauge(reloadingDesc, truth(s.Rolling != 0))
	gauge(reloadDesc, truth(s.ReloadOK || s.ReloadAt.IsZero()))
	gauge(reloadedDesc, seconds(s.ReloadAt))
	gauge(memoryDesc, float64(w.resident))
	counter(eventsDesc, w.last())
	return all
}

func (w *watcher) childMetrics(gauge func(*prometheus.Desc, float64, ...string), now time.Time) {
	type place struct{ state, kind string }
	count, ages := map[place]int{}, map[string]int{}
	running, oldest := 0.0, time.Duration(0)
	for _, c := range w.board.Children {
		count[place{c.State.String(), c.Kind.String()}]++
		switch {
		case c.Generation == w.board.Generation:
			ages["serving"]++
		case c.Generation == w.board.Rolling:
			ages["coming"]++
		default:
			ages["old"]++
		}
		running += float64(c.Running)
		if c.Job != 0 {
			oldest = max(oldest, now.Sub(c.Started))
		}
	}
	for _, state := range childStates {
		for _, kind := range childKinds {
			gauge(childrenDesc, float64(count[place{state.String(), kind.String()}]), state.String(), kind.String())
		}
	}
	for _, g := range generations {
		gauge(ageDesc, float64(ages[g]), g)
	}
	gauge(runningDesc, running)
	gauge(oldestDesc, oldest.Seconds())
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
