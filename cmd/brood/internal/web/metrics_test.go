package web

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/brooddaemon/brood/scoreboard"
)

func registry(t *testing.T, s *Server) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(collector{s, s.all}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	f.must(f.board.SetListen("127.0.0.1:80"))
	f.status(scoreboard.Status{State: "reloading", Generation: 2, Rolling: 3, Want: 4, Born: 5, Died: 6, Killed: 7, Lost: 8, Done: 9, Skipped: 10, Refused: 11,
		ReloadAt: time.Unix(1700000000, 0), ReloadOK: true})
	f.child(0, os.Getpid(), 2)
	f.child(1, os.Getpid(), 3).SetWork(scoreboard.Work{State: scoreboard.Idle, Done: 1})
	work(f.child(2, os.Getpid(), 1), 1, "x")
	for range 3 {
		f.must(f.board.Record(scoreboard.Event{Kind: scoreboard.EventNote, Slot: -1}))
	}
	s := newServer(t, Daemon{"d", dir}, Daemon{"none", t.TempDir()})
	r := registry(t, s)
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %+v", err, problems)
	}
	_, _, body := get(t, s, "/metrics")
	for _, want := range []string{
		`brood_up{daemon="d"} 1`, `brood_up{daemon="none"} 0`, `brood_parent_hangs{daemon="d"} 0`,
		`brood_info{daemon="d",listen="127.0.0.1:80",program="/bin/fake"} 1`,
		`brood_state{daemon="d",state="reloading"} 1`, `brood_state{daemon="d",state="serving"} 0`, `brood_degraded{daemon="d"} 0`,
		`brood_children{daemon="d",kind="serve",state="idle"} 2`, `brood_children{daemon="d",kind="serve",state="working"} 1`,
		`brood_children{daemon="d",kind="dequeue",state="idle"} 0`,
		`brood_generation_children{daemon="d",generation="coming"} 1`, `brood_generation_children{daemon="d",generation="old"} 1`,
		`brood_children_wanted{daemon="d"} 4`, `brood_children_born_total{daemon="d"} 5`, `brood_children_died_total{daemon="d"} 6`,
		`brood_children_killed_total{daemon="d"} 7`, `brood_clients_lost_total{daemon="d"} 8`, `brood_clients_skipped_total{daemon="d"} 10`, `brood_clients_refused_total{daemon="d"} 11`,
		`brood_jobs_done_total{daemon="d"} 10`, `brood_jobs_running{daemon="d"} 1`, `brood_generation{daemon="d"} 2`,
		`brood_reloading{daemon="d"} 1`, `brood_reload_success{daemon="d"} 1`, `brood_last_reload_timestamp_seconds{daemon="d"} 1.7e+09`,
		`brood_events_total{daemon="d"} 3`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
	if strings.Count(body, `daemon="none"`) != 1 {
		t.Error("more is said of a daemon that does not run than that")
	}
	if v := value(t, body, `brood_resident_memory_bytes{daemon="d"}`); v == "0" {
		t.Error("the parent has no memory")
	}
	if v := value(t, body, `brood_job_oldest_seconds{daemon="d"}`); v == "0" {
		t.Error("the job is not older than 0 s")
	}
}

func value(t *testing.T, body, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(body, "\n"+name+" ")
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	v, _, _ := strings.Cut(rest, "\n")
	return v
}

// The number of series does not grow with jobs, clients, children or reloads, and no text of a job is a label.
func TestSeriesAreBounded(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t, dir, self(t))
	s := newServer(t, Daemon{"d", dir})
	r := registry(t, s)
	before, err := testutil.GatherAndCount(r)
	if err != nil {
		t.Fatal(err)
	}
	for slot := range 8 {
		work(f.child(slot, os.Getpid(), uint64(slot)), uint64(slot+1), hostile)
	}
	f.status(scoreboard.Status{State: hostile, Generation: 77, Reload: hostile, Trouble: hostile})
	s.refresh(0)
	after, err := testutil.GatherAndCount(r)
	if err != nil || before != after {
		t.Errorf("%d series before, %d after: %v", before, after, err)
	}
	if _, _, body := get(t, s, "/metrics"); strings.Contains(body, "img") || regexp.MustCompile(`pid="|generation="\d`).MatchString(body) {
		t.Errorf("a label is made of what it must not be made of:\n%s", body)
	}
}

var metricName = regexp.MustCompile(`\bbrood_[a-z_]+\b`)

// The dashboard asks only for metrics that there are, and for each of them.
func TestDashboard(t *testing.T) {
	names := metricNames(t)
	asked := dashboardNames(t)
	for _, name := range asked {
		if !slices.Contains(names, name) {
			t.Errorf("the dashboard asks for %s, which nobody has", name)
		}
	}
	if len(asked) < 15 {
		t.Errorf("the dashboard asks only for %v", asked)
	}
}

// metricNames are those that the collector really gives.
func metricNames(t *testing.T) []string {
	dir := t.TempDir()
	newFake(t, dir, self(t))
	families, err := registry(t, newServer(t, Daemon{"d", dir})).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	if len(names) != len(described) {
		t.Errorf("%d metrics are described, %d are given: %v", len(described), len(names), names)
	}
	return names
}

// dashboardNames are those that occur in the queries of the dashboard, which is looked at on the way.
func dashboardNames(t *testing.T) (names []string) {
	b, err := os.ReadFile("../../../../contrib/grafana/brood.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
		Annotations struct{ List []struct{ Expr string } }
		Templating  struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.H == 0 || len(p.Targets) == 0 {
			t.Errorf("panel %+v", p)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			names = append(names, metricName.FindAllString(q.Expr, -1)...)
		}
	}
	for _, a := range d.Annotations.List {
		names = append(names, metricName.FindAllString(a.Expr, -1)...)
	}
	for _, v := range d.Templating.List {
		names = append(names, metricName.FindAllString(fmt.Sprint(v.Query), -1)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
