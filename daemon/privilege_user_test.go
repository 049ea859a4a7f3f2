package daemon_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
}

// A person is who the children of a daemon are to be, and what the kernel should say of them then.
type person struct {
	name     string
	env      []string
	uid, gid string
	groups   []string
	user     *user.User // nil: not known to the system
}

func lookUp(t *testing.T, name string) person {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Skip(err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		t.Skip(err)
	}
	return person{name, []string{"BROOD_USER=" + name}, u.Uid, u.Gid, groups, u}
}

// sociable returns a user who is in groups beside his own.
func sociable(t *testing.T) (p person, found bool) {
	f, err := os.Open("/etc/group")
	if err != nil {
		return p, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if f := strings.Split(lines.Text(), ":"); len(f) == 4 && f[3] != "" {
			p = lookUp(t, strings.Split(f[3], ",")[0])
			if p.uid != "0" && len(p.groups) > 1 {
				return p, true
			}
		}
	}
	return p, false
}

// check compares what the kernel says with what it should say.
func (p person) check(t *testing.T, who string, got map[string]string) {
	t.Helper()
	four := func(id string) string { return strings.Join([]string{id, id, id, id}, " ") }
	groups := strings.Fields(got["Groups"])
	slices.Sort(groups)
	want := slices.Sorted(slices.Values(p.groups))
	if got["Uid"] != four(p.uid) || got["Gid"] != four(p.gid) || !slices.Equal(groups, want) {
		t.Errorf("%s is user %s, group %s, in groups %q; want %s, %s, %q", who, got["Uid"], got["Gid"], groups, p.uid, p.gid, want)
	}
	if p.uid == "0" {
		return
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if strings.Trim(got[set], "0") != "" {
			t.Errorf("%s has %s %s", who, set, got[set])
		}
	}
	if got["NoNewPrivs"] != "1" {
		t.Errorf("%s has NoNewPrivs %s", who, got["NoNewPrivs"])
	}
}

func people(t *testing.T) []person {
	nobody := lookUp(t, "nobody")
	number := nobody
	number.name, number.env = "number", []string{"BROOD_USER=" + nobody.uid}
	all := []person{nobody, number,
		{"unknown number", []string{"BROOD_USER=54321"}, "54321", "54321", []string{"54321"}, nil},
		{"group alone", []string{"BROOD_GROUP=54322"}, "0", "54322", []string{"54322"}, nil},
		{"user and group", []string{"BROOD_USER=nobody", "BROOD_GROUP=54322"}, nobody.uid, "54322", append([]string{"54322"}, nobody.groups...), nobody.user},
	}
	if p, found := sociable(t); found {
		all = append(all, p)
	}
	return all
}

// Children are who they should be, and so are the programs of their jobs. The parent stays who it is. The directory of
// the daemon's start is one that only root may enter.
func TestChildrenAreSomebodyElse(t *testing.T) {
	needRoot(t)
	for _, p := range people(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, shells, append(p.env, "BROOD_ENVIRON=DAEMON_* GORACE")...)
			p.check(t, "a child", fields(s.tell("read /proc/self/status")))
			p.check(t, "a job's program", fields(s.tell("sh cat /proc/self/status")))
			own, parent := statusOf(t, os.Getpid()), statusOf(t, s.cmd.Process.Pid)
			for _, name := range []string{"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"} {
				if parent[name] != own[name] {
					t.Errorf("the parent's %s is %s, was %s", name, parent[name], own[name])
				}
			}
			for _, c := range s.serving() {
				if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", c.PID)); dir != s.dir {
					t.Errorf("a child is in %s, %v; want %s", dir, err, s.dir)
				}
			}
			if p.user == nil {
				return
			}
			for _, env := range []string{s.tell("env"), s.tell("sh env")} {
				lines := strings.Split(env, "\n")
				for name, value := range map[string]string{"HOME": p.user.HomeDir, "USER": p.user.Username, "LOGNAME": p.user.Username} {
					if !slices.Contains(lines, name+"="+value) {
						t.Errorf("no %s=%s in the environment:\n%s", name, value, env)
					}
				}
			}
		})
	}
}

// openDir makes a directory that everybody may write to.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What children have given up they do not get back, and cannot do any more. What the parent has opened for them serves.
func TestChildrenCannotGoBack(t *testing.T) {
	needRoot(t)
	t.Parallel()
	nobody, dir := lookUp(t, "nobody"), openDir(t)
	low := lowAddress()
	s := start(t, shells, "BROOD_USER=nobody", "BROOD_DIR=/", "LISTEN_TOO="+low)
	refused := func(verb, arg string, errno syscall.Errno) {
		t.Helper()
		if got := s.tell("%s %s", verb, arg); !strings.HasPrefix(got, "error: ") || !strings.HasSuffix(got, errno.Error()) {
			t.Errorf("%s %s: got %q, want %v", verb, arg, got, errno)
		}
	}
	if got := s.tell("began"); got != s.dir {
		t.Errorf("a child has begun in %s, want %s, as the daemon", got, s.dir)
	}
	refused("setuid", "", syscall.EPERM)
	refused("setgid", "", syscall.EPERM)
	if _, err := os.Stat("/etc/shadow"); err == nil {
		refused("read", "/etc/shadow", syscall.EACCES)
	}
	if lowest, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil || strings.TrimSpace(string(lowest)) == "1024" {
		refused("bind", strings.TrimSuffix(low, "80")+"81", syscall.EACCES)
	} else {
		t.Logf("every user may bind ports from %s on", lowest)
	}
	conn, err := s.dialer().Dial("tcp4", low)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := tellOn(t, conn, "pid"); got == strconv.Itoa(s.cmd.Process.Pid) {
		t.Error("the parent has served")
	}

	if got := s.tell("sh umask"); got != "0027\n" {
		t.Errorf("umask %q", got)
	}
	file := filepath.Join(dir, "file")
	if got := s.tell("mkfile %s", file); got != "made" {
		t.Error(got)
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil || st.Mode&0o777 != 0o640 || fmt.Sprint(st.Uid, st.Gid) != nobody.uid+" "+nobody.gid {
		t.Errorf("a new file has mode %o and belongs to %d, %d; %v", st.Mode, st.Uid, st.Gid, err)
	}

	id := setuidID(t, dir)
	if got := s.tell("sh %s -u; %s -g", id, id); got != nobody.uid+"\n"+nobody.gid+"\n" {
		t.Errorf("a setuid program is %q", got)
	}
}

// lowAddress is an address with a port that only root may bind, of this test process alone.
func lowAddress() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:80", 1+pid>>16&0x7f, pid>>8&0xff, pid&0xff)
}

// setuidID makes a program that tells who it is and is root, whoever starts it.
func setuidID(t *testing.T, dir string) string {
	t.Helper()
	path, err := exec.LookPath("id")
	if err != nil {
		t.Skip(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "id")
	if err := os.WriteFile(file, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	// Without a daemon it works, or the test would say nothing.
	cmd := exec.Command(file, "-u")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "0\n" {
		t.Skipf("a setuid program has no effect here: %q, %v", out, err)
	}
	return file
}
