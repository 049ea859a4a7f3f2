package doctor

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brooddaemon/brood/scoreboard"
)

// A tree is a system of the test's own: files by path, and symbolic links, whose content begins with "->".
type tree map[string]string

func (tr tree) system(t *testing.T) System {
	t.Helper()
	s := System{Root: t.TempDir(), UserID: 7, Owner: func(string) int { return 7 }}
	for path, text := range tr {
		path = s.path(path)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if to, link := strings.CutPrefix(text, "->"); err == nil && link {
			err = os.Symlink(to, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// with returns the tree with more in it.
func (tr tree) with(more tree) tree {
	all := tree{}
	for _, m := range []tree{tr, more} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

const limitsText = "Limit                     Soft Limit           Hard Limit           Units     \n" +
	"Max processes             PROC                 unlimited            processes \n" +
	"Max open files            FILES                524288               files     \n"

func limitsOf(files, processes string) string {
	return strings.NewReplacer("PROC", processes, "FILES", files).Replace(limitsText)
}

// home is a parent, 10, and two children, 11 and 12, on a healthy system.
func home() tree {
	tr := tree{
		"proc/sys/fs/inotify/max_user_instances": "128\n", "proc/sys/fs/inotify/max_user_watches": "65536\n",
		"proc/sys/net/core/somaxconn": "4096\n", "proc/sys/kernel/yama/ptrace_scope": "1\n",
		"proc/sys/net/ipv4/tcp_retries2": "15\n", "proc/sys/net/ipv4/tcp_keepalive_time": "7200\n",
		"proc/10/net/netstat": "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 0 0\nIpExt: InNoRoutes\nIpExt: 0\n",
		"proc/10/net/tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
			"   0: " + kernelForm("127.0.0.1") + ":1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     7        0 5001 1\n",
		"proc/10/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /proc rw - proc proc rw\n3 1 0:6 / /mnt/my\\040files rw - nfs4 h:/x rw\n" +
			"4 1 0:7 / /over rw - overlay overlay rw\n5 1 0:8 / /f rw - fuse.sshfs x rw\n",
		"proc/10/fd/7": "->socket:[5001]",
	}
	for _, pid := range []string{"10", "11", "12"} {
		tr["proc/"+pid+"/limits"] = limitsOf("20000", "20000")
		tr["proc/"+pid+"/status"] = "Name:\tjobd\nUid:\t7\t7\t7\t7\nThreads:\t8\nCapEff:\t0000000000000000\n"
		tr["proc/"+pid+"/comm"] = "jobd\n"
		tr["proc/"+pid+"/fd/3"] = "->anon_inode:[eventpoll]"
		tr["proc/"+pid+"/cgroup"] = "0::/system.slice/jobd.service/" + pid + "\n"
	}
	return tr
}

// kernelForm is an IPv4 address as this machine's kernel writes it.
func kernelForm(ip string) string {
	b := net.ParseIP(ip).To4()
	if littleEndian {
		b = net.IP{b[3], b[2], b[1], b[0]}
	}
	const digits = "0123456789ABCDEF"
	var s strings.Builder
	for _, x := range b {
		s.WriteByte(digits[x>>4])
		s.WriteByte(digits[x&15])
	}
	return s.String()
}

func daemon10() Daemon {
	return Daemon{
		Name: "jobd", PID: 10, Children: []int{11, 12}, Program: "/usr/bin/jobd", Listen: []string{"127.0.0.1:8080"}, Settings: Defaults(),
	}
}

type check func(System, Daemon) []Finding

// Each check on a tree that is healthy, and on such that are not.
func TestChecks(t *testing.T) {
	nobody := func(d *Daemon) { *d = Daemon{Settings: Defaults(), Listen: d.Listen} }
	listening := func(addresses ...string) func(*Daemon) { return func(d *Daemon) { d.Listen = addresses } }
	program := func(path string) func(*Daemon) { return func(d *Daemon) { d.Program = path } }
	group := func(controller, path string, files tree) tree {
		tr := tree{"proc/10/cgroup": controller + path + "\n"}
		return tr.with(files)
	}
	for _, tt := range []struct {
		name   string
		check  check
		differ tree          // from home
		change func(*Daemon) // from daemon10; nil: none
		level  Level         // the worst; "": there is no finding
		what   string        // in it
	}{
		{"enough files", openFiles, nil, nil, OK, "may have 20000"},
		{"few files", openFiles, tree{"proc/10/limits": limitsOf("1027", "1")}, nil, Fail, "the parent, process 10, may have 1027, and needs 1028 for 150"},
		{"just enough", openFiles, tree{"proc/10/limits": limitsOf("1028", "1")}, nil, OK, "needs 1028"},
		{"no limit", openFiles, tree{"proc/10/limits": limitsOf("unlimited", "1")}, nil, OK, "any number"},
		{"many jobs", openFiles, nil, func(d *Daemon) { d.Settings.Concurrency = 20000 }, Fail, "a child, process 11, may have 20000, and needs 20033"},
		{"nobody", openFiles, nil, nobody, "", ""},
		{"odd limits", openFiles, tree{"proc/10/limits": "none\n"}, nil, Warn, `no line "Max open files"`},

		{"enough processes", userProcesses, nil, nil, OK, "may have 20000"},
		{"no processes", userProcesses, tree{"proc/11/limits": limitsOf("1", "149")}, nil, Fail, "may have 149 threads; others have 0"},
		{"few processes", userProcesses, tree{"proc/11/limits": limitsOf("1", "1100"), "proc/99/status": "Uid:\t7\t7\t7\t7\nThreads:\t90\n"}, nil, Warn, "others have 90"},
		{"of root", userProcesses, tree{"proc/11/limits": limitsOf("1", "1"), "proc/11/status": "Uid:\t0\t0\t0\t0\n"}, nil, OK, "root"},

		{"watches", watches, nil, nil, OK, "uses 0 of 128"},
		{"many instances", watches, tree{"proc/sys/fs/inotify/max_user_instances": "1", "proc/11/fd/5": "->anon_inode:inotify"}, nil, Fail, "uses 1 of 1"},
		{"many watches", watches, tree{"proc/sys/fs/inotify/max_user_watches": "1025", "proc/11/fd/5": "->anon_inode:inotify",
			"proc/11/fdinfo/5": "pos:\t0\ninotify wd:1 ino:1\ninotify wd:2 ino:2\n"}, nil, Fail, "uses 2 of 1025"},
		{"no inotify", watches, tree{"proc/sys/fs/inotify/max_user_watches": "x"}, nil, Warn, "cannot be seen"},

		{"backlog", backlog, nil, nil, OK, "4096 clients"},
		{"old backlog", backlog, tree{"proc/sys/net/core/somaxconn": "128"}, nil, Warn, "128 clients"},
		{"no backlog", backlog, tree{"proc/sys/net/core/somaxconn": "5"}, nil, Fail, "5 clients"},
		{"no overflow", overflows, nil, nil, OK, "no client"},
		{"overflow", overflows, tree{"proc/10/net/netstat": "TcpExt: A ListenOverflows ListenDrops\nTcpExt: 9 3 4\n"}, nil, Warn, "3 clients of this system have found a listener's queue full, and 4"},
		{"odd counters", overflows, tree{"proc/10/net/netstat": "TcpExt: A ListenOverflows\nTcpExt: 9\nTcpExt:"}, nil, OK, "no client"},

		{"no pids", pids, nil, nil, OK, "no control group limits"},
		{"pids", pids, group("0::", "/a/b", tree{"sys/fs/cgroup/a/b/pids.max": "max\n", "sys/fs/cgroup/a/pids.max": "5000\n", "sys/fs/cgroup/a/pids.current": "30\n"}),
			nil, OK, "/a has 30 threads of 5000"},
		{"too few pids above", pids, group("0::", "/a/b", tree{"sys/fs/cgroup/a/b/pids.max": "max", "sys/fs/cgroup/a/pids.max": "100", "sys/fs/cgroup/a/pids.current": "30"}),
			nil, Fail, "/a has 30 threads of 100, and 148"},
		{"few pids, version 1", pids, group("4:cpu,pids:", "/c", tree{"sys/fs/cgroup/pids/c/pids.max": "1000", "sys/fs/cgroup/pids/c/pids.current": "30"}),
			nil, Warn, "/c has 30 threads of 1000, and 148 children more, with 1184"},
		{"hybrid", pids, group("0::", "/c", tree{"sys/fs/cgroup/unified/c/pids.max": "10", "sys/fs/cgroup/unified/c/pids.current": "3"}), nil, Fail, "unified/c has 3"},
		{"no memory limit", memory, group("9:memory:", "/c", tree{"sys/fs/cgroup/memory/c/memory.limit_in_bytes": "9223372036854771712"}), nil, OK, "no control group"},
		{"memory", memory, group("0::", "/c", tree{"sys/fs/cgroup/c/memory.max": "2000000000", "sys/fs/cgroup/c/memory.current": "1000000",
			"proc/11/smaps_rollup": "x\nPrivate_Clean: 1000 kB\nPrivate_Dirty: 1000 kB\n"}), nil, OK, "1.0 MB of 2000.0 MB"},
		{"little memory", memory, group("9:memory:", "/c", tree{"sys/fs/cgroup/memory/c/memory.limit_in_bytes": "200000000",
			"sys/fs/cgroup/memory/c/memory.usage_in_bytes": "1000000", "proc/12/smaps_rollup": "Private_Dirty: 2000 kB\n"}), nil, Warn, "148 children more, as large as the largest, take 303.1 MB"},
		{"groups", groups, nil, nil, OK, "of its own"},
		{"one group", groups, tree{"proc/11/cgroup": "0::/a\n", "proc/10/cgroup": "0::/a\n"}, nil, Warn, "no control group of their own"},
		{"version 1", groups, tree{"proc/11/cgroup": "1:pids:/a\n", "proc/10/cgroup": "1:pids:/b\n"}, nil, Warn, "no control group of their own"},

		{"its port", ports, nil, nil, OK, "127.0.0.1:8080 is the daemon's"},
		{"its port, in a child only", ports, tree{"proc/10/fd/7": "->socket:[1]", "proc/12/fd/9": "->socket:[5001]"}, nil, OK, "is the daemon's"},
		{"a stranger's", ports, tree{"proc/10/fd/7": "->socket:[1]", "proc/77/fd/9": "->socket:[5001]", "proc/77/comm": "nginx\n"}, nil, Fail,
			"127.0.0.1:8080 is held by process 77 (nginx) of user 7"},
		{"any address", ports, tree{"proc/net/tcp": home()["proc/10/net/tcp"]}, func(d *Daemon) { nobody(d); d.Listen = []string{":8080"} }, Fail, ":8080 is held by process 10 (jobd)"},
		{"another address", ports, tree{"proc/net/tcp": home()["proc/10/net/tcp"]}, func(d *Daemon) { nobody(d); d.Listen = []string{"127.0.0.2:8080"} }, OK, "is free"},
		{"another port", ports, nil, listening("127.0.0.1:8081"), Fail, "nobody listens on 127.0.0.1:8081"},
		{"held elsewhere", ports, tree{"proc/10/fd/7": "->socket:[1]"}, nil, Fail, "by a process of user 7 that is not to be seen from here"},
		{"a name", ports, nil, listening("nonsense"), Fail, "nonsense is no address"},
		{"IPv6", ports, tree{"proc/10/net/tcp6": "  0: 00000000000000000000000000000000:1F91 00000000000000000000000000000000:0000 0A 0:0 0:0 0 7 0 5001 1\n"},
			listening("10.0.0.1:8081"), OK, "is the daemon's"},
		{"Unix socket", ports, tree{"proc/10/net/unix": "Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 00010000 0001 01 5001 /run/s\n0: 3 0 0 0001 03 99 /run/t\n"},
			listening("unix:/run/s"), OK, "unix:/run/s is the daemon's"},
		{"connected Unix socket", ports, tree{"proc/10/net/unix": "0: 3 0 00000000 0001 03 99 /run/t\n"}, listening("unix:/run/t"), Fail, "nobody listens"},

		{"silence", silence, nil, nil, OK, "after 1m15s"},
		{"silence off", silence, nil, func(d *Daemon) { d.Settings.ClientTimeout = -1 }, Warn, "tcp_keepalive_time, 2h0m0s"},

		{"eye", sight, nil, nil, OK, "nothing keeps the parent"},
		{"yama 2", sight, tree{"proc/sys/kernel/yama/ptrace_scope": "2"}, nil, Warn, "ptrace_scope is 2"},
		{"yama 2, able", sight, tree{"proc/sys/kernel/yama/ptrace_scope": "2", "proc/10/status": "Uid:\t7\t7\t7\t7\nCapEff:\t0000000000080000\n"}, nil, OK, ""},
		{"yama 3", sight, tree{"proc/sys/kernel/yama/ptrace_scope": "3", "proc/10/status": "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n"}, nil, Warn, "nobody may look"},
		{"hidepid", sight, tree{"proc/10/mountinfo": "2 1 0:5 / /proc rw - proc proc rw,hidepid=invisible\n"}, nil, Warn, "hidepid=invisible"},
		{"hidepid off", sight, tree{"proc/10/mountinfo": "2 1 0:5 / /proc rw - proc proc rw,hidepid=0\n"}, nil, OK, ""},
		{"another user", sight, tree{"proc/11/status": "Uid:\t8\t8\t8\t8\n"}, func(d *Daemon) { d.Children = []int{11} }, Warn, "child 11 is not dumpable"},

		{"a disk", changes, nil, nil, OK, "ext4"},
		{"NFS", changes, nil, program("/mnt/my files/bin/jobd"), Warn, "is on nfs4 at /mnt/my files"},
		{"FUSE", changes, nil, program("/f/jobd"), Warn, "fuse.sshfs"},
		{"overlay", changes, nil, program("/over/jobd"), OK, "overlay at /over"},
		{"beside a mount", changes, nil, program("/fa/jobd"), OK, "ext4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := home().with(tt.differ)
			d := daemon10()
			if tt.change != nil {
				tt.change(&d)
			}
			s := tr.system(t)
			found := tt.check(s, d)
			if tt.level == "" {
				if len(found) > 0 {
					t.Errorf("found %v", found)
				}
				return
			}
			worst := Finding{Level: OK}
			all := ""
			for _, f := range found {
				all += f.String() + "\n"
				if f.Level == Fail || f.Level == Warn && worst.Level == OK {
					worst.Level = f.Level
				}
				if (f.Fix == "") != (f.Level == OK) {
					t.Errorf("a fix for what is fine, or none for what is not: %v", f)
				}
			}
			if worst.Level != tt.level || !strings.Contains(all, tt.what) {
				t.Errorf("found\n%swant %s, %q", all, tt.level, tt.what)
			}
		})
	}
}

// What a dead daemon has left is told with whose it was; what a living one has is not.
func TestLeftovers(t *testing.T) {
	const boot = "01234567-89ab-cdef-0123-456789abcdef"
	tr := tree{
		"proc/sys/kernel/random/boot_id": boot + "\n",
		"proc/10/stat":                   "10 (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0",
		"run/empty/other":                "",
		"run/control/control":            "",
	}
	s := tr.system(t)
	dir := func(name string) string {
		d := s.path("run", name)
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		return d
	}
	board := func(name string, pid int, start uint64, bootID string) {
		_, err := scoreboard.Create(filepath.Join(dir(name), "scoreboard"), scoreboard.Identity{Name: name, PID: pid, Start: start, BootID: bootID, Program: "/bin/" + name}, 1)
		if err != nil {
			t.Fatal(err)
		}
	}
	board("alive", 10, 777, boot)
	board("dead", 11, 777, boot)
	board("reused", 10, 778, boot)
	board("rebooted", 10, 777, strings.Replace(boot, "0", "1", 1))
	if err := os.WriteFile(filepath.Join(dir("dead"), "control"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir("odd"), "scoreboard"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := ""
	found := leftovers(s, Daemon{})
	for _, f := range found {
		all += f.String() + "\n"
	}
	for _, want := range []string{
		"/run/dead has scoreboard, control of dead, process 11 of /bin/dead, which is gone", "/run/reused has scoreboard of reused, process 10",
		"/run/rebooted has scoreboard of rebooted",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("not found: %q in\n%s", want, all)
		}
	}
	if len(found) != 3 {
		t.Errorf("found\n%s", all)
	}
	if f := leftovers(s, Daemon{RunDir: s.path("run/alive")}); len(f) != 1 || f[0].Level != OK {
		t.Errorf("of one that is alive: %v", f)
	}
	if f := leftovers(s, Daemon{RunDir: s.path("run/control")}); len(f) != 1 || f[0].Level != Warn {
		t.Errorf("a socket alone: %v", f)
	}
}

// What is said and not, by the kernel and about everything at once.
func TestExamine(t *testing.T) {
	s := home().system(t)
	s.Diag = func() error { return errors.New("operation not permitted") }
	found := Examine(s, daemon10())
	if Failed(found) {
		t.Errorf("found %v", found)
	}
	warned := map[string]bool{}
	for _, f := range found {
		if f.Level == Warn {
			warned[f.Check] = true
		}
	}
	if !warned["inet_diag"] {
		t.Errorf("found %v", found)
	}
	b, err := json.Marshal(found[0])
	if err != nil || !strings.HasPrefix(string(b), `{"level":"ok","check":"open files","what":"`) {
		t.Errorf("%s, %v", b, err)
	}
	if !Failed(append(found, Finding{Level: Fail})) {
		t.Error("a failure is none")
	}
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		args, env string
		change    func(*Settings)
	}{
		{"jobd", "", func(*Settings) {}},
		{"jobd -max-children 7 --concurrency=3 -stop-timeout 1m -other x -daemonize -client-timeout -1s", "", func(s *Settings) {
			*s = Settings{7, 3, time.Minute, -time.Second, true}
		}},
		{"jobd -max-children 7", "BROOD_MAX_CHILDREN=9 BROOD_CONCURRENCY=4 PATH=/x BROOD_STOP_TIMEOUT= BROOD", func(s *Settings) {
			s.MaxChildren, s.Concurrency = 7, 4
		}},
		{"jobd -max-children many -concurrency", "BROOD_DAEMONIZE=perhaps", func(*Settings) {}},
		{"jobd -daemonize=false", "BROOD_DAEMONIZE=true", func(*Settings) {}},
		{"jobd -max-children 7 -config /etc/jobd.conf", "BROOD_CONCURRENCY=4 BROOD_CONFIG=/none", func(s *Settings) {
			s.MaxChildren, s.Concurrency, s.StopTimeout, s.Daemonize = 7, 4, time.Minute, true
		}},
		{"jobd", "BROOD_CONFIG=jobd.conf", func(s *Settings) {
			*s = Settings{9, 9, time.Minute, 75 * time.Second, true}
		}},
		{"jobd -config=none", "", func(*Settings) {}},
	} {
		want := Defaults()
		tt.change(&want)
		s := tree{"proc/3/cmdline": strings.ReplaceAll(tt.args, " ", "\x00") + "\x00", "proc/3/environ": strings.ReplaceAll(tt.env, " ", "\x00"),
			"proc/3/cwd": "->/etc", "etc/jobd.conf": "max_children 9 # as many\nconcurrency 9\nstop-timeout 1m\ndaemonize true\n"}.system(t)
		if got := SettingsOf(s, 3); got != want {
			t.Errorf("%q %q: %+v, want %+v", tt.args, tt.env, got, want)
		}
	}
}
