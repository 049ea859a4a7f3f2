package doctor

import (
	"strings"
	"testing"
	"time"
)

const goodUnit = `# a comment
[Unit]
Description=jobs
Type=simple
[Service]
Type=notify-reload
ExecStart=/usr/local/bin/jobd \
# in between
  -listen :8080
Restart=on-failure
WatchdogSec=30
FileDescriptorStoreMax=16
TimeoutStopSec=45
KillMode=mixed
[Install]
WantedBy=multi-user.target
`

func TestUnit(t *testing.T) {
	if got := ParseUnit(goodUnit)["ExecStart"]; len(got) != 1 || got[0] != "/usr/local/bin/jobd  -listen :8080" {
		t.Errorf("the command is %q", got)
	}
	for _, tt := range []struct {
		more  string // after the good one, as a drop-in
		level Level
		what  string
	}{
		{"", OK, "it fits"},
		{"[Install]\nType=simple", OK, "it fits"},
		{"Type=simple", Warn, "Type=simple"},
		{"Type=\n", Warn, "Type=simple"},
		{"Type=notify", Warn, "does not wait for the outcome"},
		{"NotifyAccess=none", Fail, "is not heard"},
		{"NotifyAccess=none\nNotifyAccess=all", OK, ""},
		{"TimeoutStopSec=30", Fail, "not longer than -stop-timeout, 30s"},
		{"TimeoutStopSec=31", OK, ""},
		{"TimeoutStopSec=1min 30s", OK, ""},
		{"TimeoutStopSec=infinity", OK, ""},
		{"TimeoutStopSec=\n", OK, ""},
		{"TimeoutStopSec=\nTimeoutSec=10", Fail, "TimeoutStopSec=10"},
		{"TimeoutStopSec=soon", Warn, "cannot be read"},
		{"KillMode=process", Fail, "KillMode=process"},
		{"KillMode=none", Fail, "KillMode=none"},
		{"KillMode=control-group", OK, ""},
		{"FileDescriptorStoreMax=1", Warn, "FileDescriptorStoreMax=1"},
		{"FileDescriptorStoreMax=", Warn, "FileDescriptorStoreMax=0"},
		{"Restart=no", Warn, "stays dead"},
	} {
		d := Daemon{Listen: []string{":1", ":2"}, Settings: Defaults()}
		found := CheckUnit(ParseUnit(goodUnit+"[Service]\n"+tt.more+"\n"), d)
		if len(found) != 1 || found[0].Level != tt.level || !strings.Contains(found[0].What, tt.what) {
			t.Errorf("%q: found %v", tt.more, found)
		}
	}
	d := Daemon{Settings: Defaults()}
	d.Settings.Daemonize = true
	if !Failed(CheckUnit(ParseUnit(goodUnit), d)) {
		t.Error("one that goes into the background is fine")
	}
}

func TestTimeSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"5": 5 * time.Second, "1min 30s": 90 * time.Second, "1.5h": 90 * time.Minute, "200ms": 200 * time.Millisecond, "infinity": 0, "2d3": 48*time.Hour + 3*time.Second,
	} {
		if got, err := timeSpan(text); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "1x", "-1", "1.2.3", "s"} {
		if got, err := timeSpan(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestServiceOf(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/jobd.service/parent\n":                              "jobd.service",
		"0::/user.slice/user-7.slice/user@7.service/app.slice/jobd.service\n": "jobd.service",
		"0::/user.slice/user-7.slice/user@7.service/app.slice/x.scope\n":      "",
		"4:pids:/a\n1:name=systemd:/system.slice/jobd.service\n":              "jobd.service",
		"": "",
	} {
		s := tree{"proc/3/cgroup": text}.system(t)
		if got := ServiceOf(s, 3); got != want {
			t.Errorf("%q is of %q, want %q", text, got, want)
		}
	}
}

func FuzzUnit(f *testing.F) {
	f.Add(goodUnit)
	f.Add("[Service]\nTimeoutStopSec=1min\\\n")
	f.Fuzz(func(t *testing.T, text string) {
		if found := CheckUnit(ParseUnit(text), Daemon{Settings: Defaults()}); len(found) == 0 {
			t.Error("nothing is said")
		}
	})
}
