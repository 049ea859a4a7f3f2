package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const unitFiles = "../contrib/systemd"

// The units that are shipped are ones that systemd understands.
func TestSystemdUnits(t *testing.T) {
	leaveToPlain(t)
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: the units are not looked at")
	}
	dir := t.TempDir()
	for _, name := range []string{"jobs.service", "jobs.socket"} {
		unit, err := os.ReadFile(filepath.Join(unitFiles, name))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(unit), "/usr/local/bin/jobs", filepath.Join(bin, "jobs"))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	version, _ := exec.Command(analyze, "--version").Output()
	out, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, "jobs.service"), filepath.Join(dir, "jobs.socket")).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		var n int
		fmt.Sscanf(string(version), "systemd %d", &n)
		const since = 253 // of Type=notify-reload
		switch {
		case strings.Contains(line, "notify-reload") && n < since:
			t.Logf("systemd %d does not know Type=notify-reload, which came with %d", n, since)
		case strings.Contains(line, "jobs."):
			t.Errorf("%s", line)
		}
	}
}

var boundingPattern = regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`)

// With the capabilities that the unit leaves it, a root parent with other children does everything: it becomes them, sees a client
// who has left a child that cannot look, kills it, rolls over and stops.
func TestSystemdCapabilities(t *testing.T) {
	leaveToPlain(t)
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("not root: there are no capabilities to leave out")
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("setpriv is not installed: the capabilities of the unit are not tried")
	}
	unit, err := os.ReadFile(filepath.Join(unitFiles, "jobs.service"))
	if err != nil {
		t.Fatal(err)
	}
	m := boundingPattern.FindSubmatch(unit)
	if m == nil {
		t.Fatal("the unit has no CapabilityBoundingSet=")
	}
	set := "-all"
	for _, name := range strings.Fields(string(m[1])) {
		set += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	s := openSite(t)
	d, err := s.serve([]string{"PATH=" + os.Getenv("PATH")}, setpriv, "--bounding-set="+set, "--inh-caps=-all", "--no-new-privs", filepath.Join(bin, "jobs"),
		"-run-dir", filepath.Join(s.dir, "run"), "-listen", "127.0.0.1:0", "-listen", "unix:"+filepath.Join(s.dir, "socket"), "-user", "65534", "-prefork", "2", "-soak", "0s", "-rlimits", "nofile=512")
	if err != nil {
		t.Fatal(err)
	}
	v, err := ask(d.addr + "/job?seconds=60&kind=sleep&id=a")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := d.pick("busy=true", "text=GET /job")
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(pid); err != nil {
		t.Fatal(err)
	}
	v.conn.Close()
	if _, err := d.await("killed=1", "children=2", "idle=2"); err != nil {
		t.Error(err)
	}
	if out, err := s.command("brood", "reload", d.run).CombinedOutput(); err != nil {
		t.Errorf("reload: %v: %s", err, out)
	}
	if out, err := s.command("brood", "upgrade", d.run).CombinedOutput(); err != nil {
		t.Errorf("upgrade: %v: %s", err, out)
	}
	if out, err := s.command("brood", "stop", d.run).CombinedOutput(); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
	log, err := os.ReadFile(d.log)
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "level=WARN") && !strings.Contains(line, "killing child") || strings.Contains(line, "level=ERROR") {
			t.Errorf("it complains: %s", line)
		}
	}
	if err != nil {
		t.Error(err)
	}
}
