package daemon_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What children, and the programs of their jobs, are given by the daemon is known to the last item, whatever the daemon
// itself was given.
func TestHeritage(t *testing.T) {
	t.Parallel()
	leak, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	var dir string
	s := launchAs(t, shells, func(s *site) {
		dir = s.dir
		s.cmd.ExtraFiles = []*os.File{leak, leak}
		s.cmd.Env = []string{
			scenarioVar + "=" + shells, siteVar + "=" + s.dir, "BROOD_RUN_DIR=" + s.path("run"), "BROOD_POOL=static", "GORACE=atexit_sleep_ms=0",
			"BROOD_ENVIRON=DAEMON_* GIVEN=yes GODEBUG", "PATH=" + os.Getenv("PATH"), "HOME=/h", "LC_TIME=C", "SECRET=s", "GIVEN=no",
			"LD_BIND_NOW=1", "GODEBUG=madvdontneed=1", "GOTRACEBACK=single",
			"LISTEN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b", "NOTIFY_SOCKET=/none", "WATCHDOG_USEC=1", "_GO_DAEMON=1", "BROOD_TREE=1.1.1.1",
		}
	}).served()
	want := []string{
		scenarioVar + "=" + shells, siteVar + "=" + dir, "PATH=" + os.Getenv("PATH"), "HOME=/h", "LC_TIME=C", "GIVEN=yes",
		"GODEBUG=madvdontneed=1", "GORACE=atexit_sleep_ms=0",
	}
	if os.Geteuid() != 0 {
		want = append(want, "GOTRACEBACK=single")
	}
	slices.Sort(want)
	for who, env := range map[string]string{"a child": s.tell("env"), "a job's program": s.tell("run env")} {
		got := strings.Fields(env)
		slices.Sort(got)
		mark := slices.IndexFunc(got, func(kv string) bool { return strings.HasPrefix(kv, "BROOD_TREE=") })
		if mark < 0 || got[mark] == "BROOD_TREE=1.1.1.1" {
			t.Fatalf("%s has no mark of its own: %q", who, got)
		}
		if got = slices.Delete(got, mark, mark+1); !slices.Equal(got, want) {
			t.Errorf("%s has\n%q, want\n%q", who, got, want)
		}
	}

	// A child: the first three for its programs, and its tools for itself alone. A file's path among them would be one
	// that was not meant for it.
	// The runtime itself looks at its cgroup's quota, for GOMAXPROCS, and the acceptor at the machine's load.
	fine := regexp.MustCompile(`^(0 false /dev/null|[12] false pipe:.*|([3-9]|\d\d+) true (socket:.*|pipe:.*|anon_inode:\[(eventfd|eventpoll|pidfd)\]|/sys/fs/cgroup/.*cpu\.[a-z_]+|/proc/loadavg))$`)
	for file := range strings.Lines(s.tell("fds")) {
		if !fine.MatchString(strings.TrimSpace(file)) {
			t.Errorf("a child has open: %s", file)
		}
	}
	if got := s.tell("sh ls /proc/$$/fd"); got != "0\n1\n2\n" {
		t.Errorf("a job's program has open: %q", got)
	}
	if got := s.tell("sh readlink /proc/$$/fd/0"); got != "/dev/null\n" {
		t.Errorf("its input is %q", got)
	}
}

// limits reads lines such as those of /proc/PID/limits.
func limits(text string) map[string]string {
	all := map[string]string{}
	columns := regexp.MustCompile(`  +`)
	for line := range strings.Lines(text) {
		if f := columns.Split(strings.TrimSpace(line), -1); len(f) >= 3 {
			all[f[0]] = f[1] + ":" + f[2]
		}
	}
	return all
}

// Limits hold when ChildInit is called, and for the programs of jobs. The parent has none of them.
func TestRlimitsAreInherited(t *testing.T) {
	for _, user := range []string{"", "nobody"} {
		t.Run("user "+user, func(t *testing.T) {
			if user != "" {
				needRoot(t)
			}
			t.Parallel()
			s := start(t, shells, "BROOD_RLIMITS=nofile=100:200 fsize=64K stack=1M:2M cpu=1000", "BROOD_USER="+user)
			want := map[string]string{
				"Max open files": "100:200", "Max file size": "65536:65536", "Max stack size": "1048576:2097152", "Max cpu time": "1000:1000",
				"Max core file size": "0:0",
			}
			for who, text := range map[string]string{"ChildInit": s.tell("limits"), "a job": s.tell("read /proc/self/limits"), "a program": s.tell("run cat /proc/self/limits")} {
				got := limits(text)
				for name, limit := range want {
					if got[name] != limit {
						t.Errorf("%s: %s %s, want %s", who, name, got[name], limit)
					}
				}
			}
			var opened int
			var full bool
			if fmt.Sscan(s.tell("open"), &opened, &full); opened > 100 || opened < 50 || !full {
				t.Errorf("a child can open %d files; full: %v", opened, full)
			}
			own, err := os.ReadFile("/proc/self/limits")
			if err != nil {
				t.Fatal(err)
			}
			parent, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			for name := range want {
				if got, want := limits(string(parent))[name], limits(string(own))[name]; name != "Max open files" && got != want {
					t.Errorf("the parent: %s %s, was %s", name, got, want)
				}
			}
		})
	}
}

// By default no child leaves a core file; who wants one says so.
func TestRlimitsDefault(t *testing.T) {
	t.Parallel()
	if got := limits(start(t, shells).tell("run cat /proc/self/limits"))["Max core file size"]; got != "0:0" {
		t.Errorf("core files: %s", got)
	}
	if got := limits(start(t, shells, "BROOD_RLIMITS=core=0:4K").tell("run cat /proc/self/limits"))["Max core file size"]; got != "0:4096" {
		t.Errorf("core files: %s", got)
	}
}

// A daemon with limits that mean nothing does not start.
func TestRlimitsRefused(t *testing.T) {
	for _, c := range []struct{ limits, want string }{
		{"files=64", `field Rlimits has "files=64": want NAME=VALUE or NAME=SOFT:HARD, with a name out of as, core`},
		{"nofile=many", `field Rlimits has "nofile=many": "many" is no amount`},
		{"nofile=64:32", `field Rlimits has "nofile=64:32": the soft limit is above the hard one`},
	} {
		t.Run(c.limits, func(t *testing.T) {
			t.Parallel()
			s := launch(t, shells, "BROOD_RLIMITS="+c.limits)
			if !s.over(patience) || s.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(s.log(), c.want) {
				t.Errorf("%v; want exit status 1 and %q", s.cmd.ProcessState, c.want)
			}
		})
	}
}
